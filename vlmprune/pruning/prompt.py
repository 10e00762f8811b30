"""What the language model really sees of one batch of prompts, from prefill through every decode step.

generate() goes on counting in the full, unpruned prompt: its attention mask and its position ids have the full length.
A `Segment` is the stretch of decoder layers that share one shortened prompt. It knows how to turn the full-length mask
and positions of a decode step into those of its own, shorter KV cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmprune.methods.base import Positions
from vlmprune.pruning.clock import Spans
from vlmprune.pruning.compaction import Compaction


@dataclass
class Record:
    """What one prefill did, for B prompts of up to V visual slots (the placeholders of their visual tokens, in order).

    visual_counts: per decoder layer, per prompt, the visual tokens that the layer processed. prompt_lengths: per
    prompt, text and visual tokens at decoder layer 0. kept: bool [B, V], the slots that reach the last decoder layer
    (of merged tokens the slots that they take); prompts with fewer slots end in False. None where nothing was pruned.
    """

    visual_counts: list[list[int]]
    prompt_lengths: list[int]
    kept: Tensor | None = None
    selection: Spans = field(default_factory=Spans)

    @property
    def selection_ms(self) -> float:
        """Time in ms that this prefill, encoding included, spent on pruning: signals, selecting, merging, dropping.

        On a GPU the time of its own stream, for which this waits; 0 where nothing was pruned.
        """
        return self.selection.milliseconds()


@dataclass
class Segment:
    """Decoder layers from `start` on, which hold a prompt of n tokens per row.

    valid: bool [B, n] or None where nothing is padded. next_position: int64 [..., B, 1], of the first generated token.
    visual_counts: visual tokens per row that these layers process, on the host.
    """

    start: int
    length: int
    valid: Tensor | None
    next_position: Tensor
    visual_counts: list[int]

    def mask(self, total: int) -> Tensor | None:
        """bool [B, total] over the prompt and the tokens generated since, or None where all may be seen."""
        if self.valid is None:
            return None
        generated = self.valid.new_ones(len(self.valid), total - self.length)
        return torch.cat([self.valid, generated], dim=1)

    def positions(self, cached: int, new: int) -> Tensor:
        """int64 [..., B, new]: positions of `new` tokens that follow `cached` tokens of this segment's cache."""
        steps = torch.arange(cached - self.length, cached - self.length + new, device=self.next_position.device)
        return self.next_position + steps


def new_positions(positions: Tensor, keep: Tensor, plan: Compaction, rule: Positions) -> tuple[Tensor, Tensor | int]:
    """Positions after a compaction, int64 [..., B, n], and how far later tokens shift, [B, 1] or 0.

    `keep`: as they were, with gaps. `renumber`: each minus the visual tokens dropped before it, which is contiguous
    wherever the unpruned positions were. positions: [..., B, L]. keep: bool [B, L], True also on padding, which moves
    nothing.
    """
    if rule == "keep":
        return plan.gather(positions, positions.dim() - 2), 0
    removed = (~keep).cumsum(dim=1)
    return plan.gather(positions.expand_as(removed) - removed), removed[:, -1:]


def full_positions(kwargs: dict[str, Any], length: int, device: torch.device) -> Tensor:
    """The position ids [..., B or 1, L] of a prefill; without any, transformers' own default (0, 1, 2, ...)."""
    positions = kwargs.get("position_ids")
    return torch.arange(length, device=device).unsqueeze(0) if positions is None else positions


def full_mask(kwargs: dict[str, Any]) -> Tensor | None:
    """The attention mask of a prefill; of several, one per kind of decoder layer, that of full attention."""
    mask = kwargs.get("attention_mask")
    return mask["full_attention"] if isinstance(mask, dict) else mask


def real_tokens(mask: Tensor, length: int) -> Tensor:
    """bool [B, length], False on padding, from the mask of a prefill.

    generate() with a static cache passes a 4-D mask [B, 1, length, cache size], bool or additive: its last row sees
    every real token.
    """
    if mask.dim() == 4:
        row = mask[:, 0, -1, :length]
        return row if row.dtype == torch.bool else row == 0
    return mask.bool()


def marked_slots(marks: Tensor, visual: Tensor, slots: Tensor, count: int) -> Tensor:
    """bool [B, count]: which visual slots of each prompt are marked.

    marks, visual: bool [B, L]; slots: int64 [B, L], the visual slot at each visual position.
    """
    nowhere = torch.full_like(slots, count)  # a column too many, cut off again
    target = torch.where(marks & visual, slots, nowhere)
    return marks.new_zeros(len(marks), count + 1).scatter_(1, target, True)[:, :count]
