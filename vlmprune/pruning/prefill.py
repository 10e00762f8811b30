"""One batch of prompts on its way into the decoder, made shorter before layer 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprune.methods.base import Positions
from vlmprune.pruning.compaction import compact
from vlmprune.pruning.deepstack import without_dropped
from vlmprune.pruning.prompt import (
    Record,
    Segment,
    full_mask,
    full_positions,
    marked_slots,
    new_positions,
    real_tokens,
)
from vlmprune.pruning.running import Running
from vlmprune.pruning.scout import Scout


class Prefill:
    """What is known of the prompts, and `kwargs`, the language model's arguments for what is left of them.

    visual: bool [B, L]. marked: whether dropped slots are marked NaN in the embeddings. segment, running and record
    follow every drop. dropped: marked slots of each prompt, on the host.
    """

    segment: Segment
    running: Running

    def __init__(self, kwargs: dict[str, Any], visual: Tensor, marked: bool, depth: int) -> None:
        self.kwargs, self.visual = kwargs, visual
        self.mask, self.embeds = full_mask(kwargs), kwargs["inputs_embeds"]
        self.real = torch.ones_like(visual) if self.mask is None else real_tokens(self.mask, visual.shape[1])
        self.marks = self.embeds[..., 0].isnan() if marked else torch.zeros_like(visual)
        keep = self.real & ~self.marks
        # The one host sync of a prefill: lengths decide the shapes of everything that follows.
        facts = torch.stack([keep.sum(1), (visual & keep).sum(1), self.marks.sum(1), self.real[:, -1].long()])
        lengths, visual_counts, self.dropped, self._ends_real = facts.tolist()
        self.record = Record([visual_counts] * depth, lengths)

    @property
    def slot_counts(self) -> list[int]:
        """Visual slots of each prompt before anything was dropped."""
        return [n + gone for n, gone in zip(self.record.visual_counts[0], self.dropped, strict=True)]

    def begin(self, detail: Tensor) -> None:
        """Before the first drop. detail: bool [B, L], as in `Running`."""
        padded = self.mask is not None
        self.running = Running.of_prompt(self.visual, detail, self.real, padded, max(self.slot_counts))
        last = self._positions[..., -1:].expand(*self._positions.shape[:-2], len(self.embeds), 1)
        valid = self.real if padded else None
        self.segment = Segment(0, self.embeds.shape[1], valid, last + 1, self.record.visual_counts[0])

    def check_padding(self) -> None:
        """Raise ValueError for right padding."""
        if not all(self._ends_real):
            raise ValueError("prompts must be padded on the left (processor.tokenizer.padding_side = 'left')")

    def check_finite(self, encoded: int, dropped: int) -> None:
        """Dropped slots are marked NaN: any other NaN must not pass for a dropped token.

        encoded, dropped: slots of the encodings that filled the prompts. Shares are compared, not numbers, because beam
        search repeats every row.
        """
        marked, slots = sum(self.dropped), sum(self.slot_counts)
        if marked * encoded != dropped * slots:
            raise RuntimeError(
                f"{marked} of {slots} visual embeddings are not finite where {dropped} of {encoded} were "
                "dropped: the vision tower or projector overflowed (try dtype=bfloat16 or float32), or the method's "
                "scores are nan"
            )

    def drop_marked(self, rule: Positions) -> None:
        """Drop the slots that are marked."""
        keep = self.real & ~self.marks
        if max(self.slot_counts):
            self._note(keep)
        if any(self.dropped):
            self._drop(keep, self.marks, rule)

    def restart(self, scout: Scout, rule: Positions) -> None:
        """Drop what the scout's layers rate low, so that the decoder starts on what is left."""
        counts, record = self.segment.visual_counts, self.record
        texts = [total - n for total, n in zip(record.prompt_lengths, counts, strict=True)]
        keep, left = scout.choose(self.kwargs["inputs_embeds"], self._positions, self.running, texts, counts)
        self._note(keep)
        record.prompt_lengths = [text + n for text, n in zip(texts, left, strict=True)]
        record.visual_counts = [left] * len(record.visual_counts)
        self._drop(keep, self.running.valid & ~keep, rule)

    @property
    def _positions(self) -> Tensor:
        embeds = self.kwargs["inputs_embeds"]
        return full_positions(self.kwargs, embeds.shape[1], embeds.device)

    def _note(self, keep: Tensor) -> None:
        now = self.running
        self.record.kept = marked_slots(keep, now.visual, now.slots, now.slot_count)

    def _drop(self, keep: Tensor, gone: Tensor, rule: Positions) -> None:
        """Go on with the positions in `keep`, bool [B, L]; `gone` are the visual ones that are dropped."""
        plan = compact(keep, self.record.prompt_lengths)
        shorter, shift = new_positions(self._positions, ~gone, plan, rule)
        embeds = plan.gather_hidden(self.kwargs["inputs_embeds"])
        # Gapped positions without a mask would be read as packed sequences (transformers' masking_utils).
        gapped = plan.valid is None and rule == "keep"
        self.kwargs = without_dropped(self.kwargs, keep, plan) | {
            "inputs_embeds": embeds,
            "position_ids": shorter,
            "attention_mask": torch.ones_like(plan.index) if gapped else plan.valid,
        }
        following, counts = self.segment.next_position - shift, self.record.visual_counts[0]
        self.segment = Segment(0, embeds.shape[1], plan.valid, following, counts)
        self.running = self.running.after(plan)
