"""Base class of methods inside the vision encoder: tokens merge after each layer that the projector depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from vlmprune.methods.base import Method, NoAmount, Tower
from vlmprune.methods.budget import to_decimal
from vlmprune.methods.merging import Matching, counts_at_fraction, counts_to_reach


@dataclass
class VisionMethod(Method):
    """Base class of methods that merge tokens after encoder layers, up to the one whose output goes to the projector.

    With `ratio` or `keep`, every layer keeps the same fraction of its tokens, solved so that the count at the end is
    exact; see `merging.counts_to_reach`. layer_ratio: that fraction itself, 0.5 to 1, as the papers state it; the count
    then follows from it (0.9 leaves 53 or 54 of 576 after the 23 layers that LLaVA reads).
    """

    layer_ratio: float | None = None

    stage: ClassVar[Literal["vision"]] = "vision"
    needs: ClassVar[tuple[str, ...]] = ("encoder_layers",)
    merges: ClassVar[bool] = True
    scope_rule: ClassVar[str] = "tile"  # the encoder processes each tile and each frame separately

    def __post_init__(self) -> None:
        if self.layer_ratio is None:
            return
        if not 0.5 <= self.layer_ratio <= 1:
            raise ValueError(f"layer_ratio={self.layer_ratio}: the fraction that a layer keeps; allowed: 0.5 to 1")
        if self.ratio is not None or self.keep is not None:
            raise ValueError(
                f"layer_ratio={self.layer_ratio} is an amount, as ratio= and keep= are: give only one of them"
            )

    def check(self, tower: Tower, depth: int) -> None:
        if self.ratio is None and self.keep is None and self.layer_ratio is None:
            raise NoAmount("no amount given, so nothing would be merged: give ratio=, keep= or method.layer_ratio=")
        self.merge_counts(tower, tower.grid[0] * tower.grid[1])

    def match(self, metric: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        """Match `r` of the tokens after `layer` to others, by their `metric` [B, T, C] ([CLS] first if there is one).

        Published for LLaVA with the layer's output as the metric.
        """
        raise NotImplementedError

    def matching_macs(self, length: int, r: int, layer: int, width: int, tower: Tower) -> int:
        """Return the multiply-accumulates of `match` on one image of `length` tokens."""
        return 0

    def counts_cls(self, layer: int, tower: Tower) -> bool:
        """Return True if the fraction that `layer` keeps is of a sequence that includes [CLS]."""
        return tower.has_cls

    def layers(self, tower: Tower) -> range:
        """Return the encoder layers (0-based) whose output is merged: all that the projector depends on."""
        return range(tower.feature_layer + 1)

    def merge_counts(self, tower: Tower, n: int) -> tuple[int, ...]:
        """Return how many of `n` patches merge after each of `layers`. Raise ValueError, naming the limit.

        All 0 for the blind baseline, ratio 1, which drops every token at the end.
        """
        layers = self.layers(tower)
        protected = tuple(int(self.counts_cls(layer, tower)) for layer in layers)
        if self.layer_ratio is not None:
            return counts_at_fraction(n, to_decimal(self.layer_ratio), protected)
        k = self.count(n)
        return counts_to_reach(n, k, protected) if k else (0,) * len(layers)

    def keeps_all(self, n: int) -> bool:
        return super().keeps_all(n) if self.layer_ratio is None else self.layer_ratio == 1
