"""State of every position of the sequence in the decoder, updated by each drop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmprune.pruning.compaction import Compaction
from vlmprune.pruning.probe import attention_rows


@dataclass
class Running:
    """State of B sequences of L positions; tensors are [B, L].

    visual: bool. slots: int64, the visual slot at each visual position. detail: bool, the visual tokens of
    high-resolution tiles. valid: bool, False on padding. raters: bool, the positions whose attention rates the visual
    tokens; all are among the last `rows` positions. slot_count: V, visual slots of the longest prompt. padded: True if
    any position may be padding. tiled: True if `detail` is not simply `visual`.
    """

    visual: Tensor
    slots: Tensor
    detail: Tensor
    valid: Tensor
    raters: Tensor
    rows: int
    slot_count: int
    padded: bool
    tiled: bool

    @classmethod
    def of_prompt(cls, visual: Tensor, detail: Tensor, real: Tensor, padded: bool, slot_count: int) -> Running:
        """Return the state of full prompts at decoder layer 0, rated by their last position."""
        last = torch.zeros_like(visual)
        last[:, -1] = True
        slots, tiled = visual.cumsum(1) - 1, detail is not visual
        return cls(
            visual & real, slots, detail & real, real, last, 1, slot_count, padded, tiled
        )  # a mask may hide visual tokens

    def rated_by(self, raters: Tensor | None, texts: list[int]) -> Running:
        """Return the state with the method's raters, bool [B, L]; texts: text tokens of each prompt, on the host.

        Raters are looked for among the last so many positions; with tiles, among as many as are not of high-resolution
        tiles, since a thumbnail may come after these.
        """
        if raters is None:
            return self
        if not self.tiled:
            return replace(self, raters=raters, rows=max(texts))
        return replace(self, raters=raters, rows=int((self.valid & ~self.detail).sum(1).max()))

    def after(self, plan: Compaction) -> Running:
        """Return the state of the shorter sequence."""
        valid = torch.ones_like(plan.index, dtype=torch.bool) if plan.valid is None else plan.valid
        return replace(
            self,
            visual=plan.gather_flags(self.visual),
            slots=plan.gather(self.slots),
            detail=plan.gather_flags(self.detail),
            valid=valid,
            raters=plan.gather_flags(self.raters),
            padded=plan.valid is not None,
        )


def trailing_attention(query: Tensor, key: Tensor, running: Running, scaling: float) -> Tensor:
    """Return post-softmax causal attention [B, H, R, L] of the last R = `running.rows` positions, at least float32."""
    length = key.shape[2]
    rows = min(running.rows, length)
    seen = running.valid[:, None, None, :] if running.padded else None
    if rows > 1:  # the last position attends to every real token: it needs no causal mask
        positions = torch.arange(length, device=key.device)
        causal = positions <= positions[length - rows :, None]
        seen = causal if seen is None else causal & seen
    return attention_rows(query[:, :, -rows:], key, seen, scaling)
