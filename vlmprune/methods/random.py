"""Random pruning: the baseline that every method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import ScoreMethod, Signals


@dataclass
class Random(ScoreMethod):
    """Keeps a uniformly random subset, drawn per image from `seed` and the pixels that the model gets, which are
    rounded in half precision.

    The draw is made on the CPU for each image, so that it is the same in every batch and on every device.
    """

    seed: int = 0

    needs: ClassVar = ("seeds",)

    def score(self, signals: Signals) -> Tensor:
        n = signals.grid[0] * signals.grid[1]
        return torch.stack([self._draw(image_seed, n) for image_seed in signals.seeds])

    def _draw(self, image_seed: int, n: int) -> Tensor:
        # Two large odd factors keep (seed, image) pairs apart; 2**63 is what Generator accepts.
        mixed = (self.seed * 0x9E3779B97F4A7C15 + image_seed * 0xBF58476D1CE4E5B9) % 2**63
        return torch.rand(n, generator=torch.Generator().manual_seed(mixed))
