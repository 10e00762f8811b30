"""Prefill of one batch of prompts, which is shortened before decoder layer 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmprune.engine.deepstack import drop_features
from vlmprune.engine.in_lm import Restart
from vlmprune.engine.prompt_state import (
    Conversation,
    Record,
    Segment,
    SequenceState,
    compact,
    full_positions,
    marked_slots,
    new_positions,
)
from vlmprune.errors import NotFinite
from vlmprune.methods.base import Positions


class Prefill:
    """State of one batch of prompts, and `kwargs`, the language model's arguments for the shortened prompts.

    visual: bool [B, L]. mask: bool [B, L or more] over all tokens, or None where nothing is padded. marked: True if
    dropped slots are marked NaN in the embeddings. held: the conversation of `cached` tokens that the cache holds
    before these prompts; None where it is empty. multiple: the shortened length is rounded up to a multiple of it.
    segment, state and record are updated by every drop. slot_counts, dropped: on the host, the visual slots of each
    prompt, including those that a mask hides, and the number of marked ones.
    """

    segment: Segment
    state: SequenceState

    def __init__(
        self,
        kwargs: dict[str, Any],
        visual: Tensor,
        mask: Tensor | None,
        marked: bool,
        depth: int,
        held: Conversation | None = None,
        cached: int = 0,
        multiple: int = 1,
    ) -> None:
        self.visual, self.held, self.cached, self.padded = visual, held, cached, mask is not None
        self.multiple = multiple
        self.real = torch.ones_like(visual) if mask is None else mask[:, -visual.shape[1] :]
        self.kwargs = kwargs if held is None else kwargs | {"position_ids": self._positions_after(held, kwargs)}
        self.embeds = kwargs["inputs_embeds"]
        self.marks = self.embeds[..., 0].isnan() if marked else torch.zeros_like(visual)
        keep = self.real & ~self.marks
        # The one host sync of a prefill: lengths decide the shapes of everything that follows.
        sums = [part.sum(dim=1) for part in (keep, visual & keep, self.marks, visual)]
        facts = torch.stack([*sums, self.real[:, -1].long()])
        lengths, visual_counts, self.dropped, self.slot_counts, self._ends_real = facts.tolist()
        self.record = Record([visual_counts] * depth, lengths)

    def set_full_prompts(self, detail: Tensor) -> None:
        """Set `state` and `segment` to those of the full prompts. detail: bool [B, L], as in `SequenceState`."""
        self.state = SequenceState.from_prompt(self.visual, detail, self.real, self.padded, max(self.slot_counts))
        last = self._positions[..., -1:].expand(*self._positions.shape[:-2], len(self.embeds), 1)
        self._hold(self.embeds.shape[1], self.real if self.padded else None, last + 1)
        if self.held is not None:
            self.kwargs = self.kwargs | {"attention_mask": self._mask(always=True)}

    def check_padding(self) -> None:
        """Raise ValueError for right padding."""
        if not all(self._ends_real):
            raise ValueError("prompts must be padded on the left (processor.tokenizer.padding_side = 'left')")

    def check_finite(self, encoded: int, dropped: int) -> None:
        """Raise NotFinite if more or fewer embeddings are NaN than were dropped, RuntimeError if nothing was encoded.

        encoded, dropped: slots of the encodings that filled the prompts, and those that were dropped, which are marked
        NaN. Their share is compared, not their number, because beam search repeats every row.
        """
        marked, slots = sum(self.dropped), sum(self.slot_counts)
        if marked * encoded != dropped * slots:
            raise NotFinite(
                f"{marked} of {slots} visual embeddings are not finite where {dropped} of {encoded} were "
                "dropped: the vision tower or projector overflowed (try dtype=bfloat16 or float32), or the method's "
                "scores are nan"
            )
        if not encoded and not marked:
            raise RuntimeError(
                f"the prompts have {slots} visual placeholders, and nothing was encoded inside `with prune(...)`: give "
                "pixel_values, since features that were made outside are not pruned"
            )

    def record_all(self) -> None:
        """Record every visual slot of the prompts as kept."""
        if max(self.slot_counts):
            self._note(self.real)

    def drop_marked(self, rule: Positions) -> None:
        """Drop the marked slots, and record the kept ones."""
        keep = self.real & ~self.marks
        if max(self.slot_counts):
            self._note(keep)
        if any(self.dropped):
            self._drop(keep, self.marks, rule)

    def drop_unselected(self, restart: Restart, rule: Positions) -> None:
        """Drop the visual tokens that `restart` does not select, before the decoder starts."""
        counts, record = self.segment.visual_counts, self.record
        texts = [total - n for total, n in zip(record.prompt_lengths, counts, strict=True)]
        keep, left = restart.select_tokens(self.kwargs["inputs_embeds"], self._positions, self.state, texts, counts)
        self._note(keep)
        record.prompt_lengths = [text + n for text, n in zip(texts, left, strict=True)]
        record.visual_counts = [left] * len(record.visual_counts)
        self._drop(keep, self.state.valid & ~keep, rule)

    def conversation(self, segments: dict[int, Segment], ids: Tensor | None, method: str) -> Conversation:
        """Describe the content of the cache after this prefill. segments: by first layer. ids: int64 [B, L]."""
        pruned = method if any(self.slot_counts) else None
        if self.held is None:
            return Conversation(segments, self.visual.shape[1], ids, self.real, pruned)
        full = self.held.tokens(self.cached) + self.visual.shape[1]
        return Conversation(segments, full, None, None, pruned or self.held.method)

    @property
    def _positions(self) -> Tensor:
        embeds = self.kwargs["inputs_embeds"]
        return full_positions(self.kwargs, embeds.shape[1], embeds.device)

    def _positions_after(self, held: Conversation, kwargs: dict[str, Any]) -> Tensor:
        """Return the positions of these prompts after `held`, int64 [..., B, L].

        Given positions count the full, unpruned prompt, so that only their differences from the first one are used.
        """
        following = held.prompt.positions(self.cached, 1, held.later)
        given = full_positions(kwargs, self.visual.shape[1], self.visual.device)
        given = given.expand(*given.shape[:-2], *self.visual.shape)
        first = self.real.int().argmax(dim=1, keepdim=True)  # before it is padding
        start = given.gather(-1, first.expand(*given.shape[:-1], 1))
        return (following + given - start).clamp(min=0)

    def _note(self, keep: Tensor) -> None:
        now = self.state
        self.record.kept = marked_slots(keep, now.visual, now.slots, now.slot_count)

    def _drop(self, keep: Tensor, gone: Tensor, rule: Positions) -> None:
        """Keep the positions in `keep`, bool [B, L], alone; `gone`: those of the dropped visual tokens."""
        plan = compact(keep, self.record.prompt_lengths, multiple=self.multiple)
        shorter, shift = new_positions(self._positions, ~gone, plan, rule)
        embeds = plan.gather_hidden(self.kwargs["inputs_embeds"])
        self._hold(embeds.shape[1], plan.valid, self.segment.next_position - shift)
        # Gapped positions without a mask would be read as packed sequences (transformers' masking_utils).
        gapped = rule == "keep" or self.held is not None
        self.kwargs = drop_features(self.kwargs, keep, plan) | {
            "inputs_embeds": embeds,
            "position_ids": shorter,
            "attention_mask": self._mask(always=gapped),
        }
        self.state = self.state.after(plan)

    def _hold(self, length: int, valid: Tensor | None, following: Tensor) -> None:
        """Set the segment: `length` tokens after the cached ones, with padding where `valid` is False."""
        before = None if self.held is None else self.held.prompt.mask(self.cached, self.held.later)
        if before is not None or (valid is not None and self.cached):
            every = self.visual.new_ones(len(self.visual), max(length, self.cached))
            before = every[:, : self.cached] if before is None else before
            valid = torch.cat([before, every[:, :length] if valid is None else valid], dim=1)
        self.segment = Segment(0, self.cached + length, valid, following, self.record.visual_counts[0])

    def _mask(self, always: bool) -> Tensor | None:
        """Return a mask, bool [B, n], over all tokens at decoder layer 0; without padding None, unless `always`."""
        if self.segment.valid is None and always:
            return self.visual.new_ones(len(self.visual), self.segment.length)
        return self.segment.valid
