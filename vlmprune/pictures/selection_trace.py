"""Record of a method's scores and merged tokens on one prompt, for a picture of them."""

from __future__ import annotations

import torch
from torch import Tensor


class Trace:
    """Observer of a session's next prefill: one prompt with `slots` visual slots, alone, with media of one kind.

    scores: float32 [V], the method's score of each token, nan if it has none; of several stages, the first one's.
    merged: bool [V], True for slots whose token was merged or is new.
    """

    def __init__(self, slots: int) -> None:
        self.scores = torch.full((slots,), torch.nan)
        self.merged = torch.zeros(slots, dtype=torch.bool)
        self._scored: int | None = None  # the layer of the first stage that gave scores

    def observe_selection(self, layer: int, slots: Tensor, scores: Tensor | None, changed: Tensor) -> None:
        """Record a selection; see `SelectionObserver`."""
        slots = slots.cpu()
        if scores is not None and self._scored in (None, layer):
            self._scored = layer
            self.scores[slots] = scores.float().cpu()
        self.merged[slots[changed.cpu()]] = True
