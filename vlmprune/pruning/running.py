"""What the engine knows of every position of the running sequence, from decoder layer 0 through each drop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlmprune.pruning.compaction import Compaction
from vlmprune.pruning.probe import attention_rows


@dataclass
class Running:
    """B sequences of L positions, [B, L] each.

    visual: bool. slots: int64, the visual slot of the prompt that stands at each visual position. detail: bool, the
    visual tokens of high-resolution tiles. valid: bool, False on padding. raters: bool, the positions whose attention
    rates the visual tokens; they stand among the last `rows`. slot_count: V, visual slots of the longest prompt.
    padded: whether any position is not valid. tiled: whether detail differs from visual.
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
        """A whole prompt at decoder layer 0, rated by its last position."""
        last = torch.zeros_like(visual)
        last[:, -1] = True
        slots, tiled = visual.cumsum(1) - 1, detail is not visual
        return cls(
            visual & real, slots, detail & real, real, last, 1, slot_count, padded, tiled
        )  # a mask may hide some

    def rated_by(self, raters: Tensor | None, texts: list[int]) -> Running:
        """The same with the method's own raters, bool [B, L]; `texts`: text tokens of each prompt, on the host.

        Text stands among the last so many positions. Where tiles are told apart, so does a global view behind them.
        """
        if raters is None:
            return self
        if not self.tiled:
            return replace(self, raters=raters, rows=max(texts))
        return replace(self, raters=raters, rows=int((self.valid & ~self.detail).sum(1).max()))

    def after(self, plan: Compaction) -> Running:
        """The same of the shorter sequence."""
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
    """Post-softmax causal attention [B, H, R, L], in float32 at least, of the last R = `running.rows` positions."""
    length = key.shape[2]
    rows = min(running.rows, length)
    seen = running.valid[:, None, None, :] if running.padded else None
    if rows > 1:  # causality lets the last position alone see every real token
        positions = torch.arange(length, device=key.device)
        causal = positions <= positions[length - rows :, None]
        seen = causal if seen is None else causal & seen
    return attention_rows(query[:, :, -rows:], key, seen, scaling)
