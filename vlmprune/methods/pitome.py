"""PiToMe: "Accelerating Transformers with Spectrum-Preserving Token Merging" (Tran et al., NeurIPS 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Tower, is_changed
from vlmprune.methods.budget import same_relative_depth
from vlmprune.methods.merging import Matching
from vlmprune.methods.tensor_ops import pairwise_mean, products, unit
from vlmprune.methods.tome import ToMe

PUBLISHED_DEPTH = 24  # CLIP-L/14


@dataclass
class PiToMe(ToMe):
    """Merges tokens that have many similar ones and protects tokens that have few (section 3.2).

        E_i = mean over j of ELU(cos(i, j) - m);   m = margin - margin l / n   in layer l of n
        order all patches by falling E; of the first 2r, A = even and B = odd ranks; each a goes to argmax_b cos(a, b)

    Unlike in ToMe, all r pairs are merged, and [CLS] is excluded first, also from the count of tokens. Output order:
    [CLS], protected patches by falling energy, B by rank: the raster order is lost. As published for LLaVA, the layer's
    outputs are compared, merged tokens are plain means, and the lower layers (0 to 12 of 24) run plain ToMe.

    start_layer: first layer of PiToMe, of 24; at another depth the same relative depth.
    margin: m in layer 0.
    """

    start_layer: int = 13
    margin: float = 0.9

    paper: ClassVar = "arXiv:2405.16148"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.start_layer <= PUBLISHED_DEPTH:
            raise ValueError(f"start_layer={self.start_layer}: of {PUBLISHED_DEPTH}; allowed: 0 to {PUBLISHED_DEPTH}")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin={self.margin}: a cosine; allowed: 0 to 1")

    def check(self, tower: Tower, depth: int) -> None:
        super().check(tower, depth)
        if is_changed(self, "margin") and all(self._is_plain(layer, tower) for layer in self.layers(tower)):
            raise ValueError(
                f"margin={self.margin} with start_layer={self.start_layer}: every layer that merges does plain ToMe, "
                "which has no margin; leave margin out, or start lower"
            )

    def match(self, metric: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        if self._is_plain(layer, tower):
            return super().match(metric, r, layer, tower)
        first = int(tower.has_cls)
        margin = self.margin - self.margin * layer / tower.depth
        x = unit(metric[:, first:])
        cosine = products(x, x)
        energy = pairwise_mean(elu(cosine - margin), dim=2)
        order = energy.sort(dim=1, descending=True, stable=True).indices  # [B, T]
        a, b, alone = order[:, 0 : 2 * r : 2], order[:, 1 : 2 * r : 2], order[:, 2 * r :]
        image = torch.arange(len(x), device=x.device).view(-1, 1, 1)
        nearest = cosine[image, a.unsqueeze(2), b.unsqueeze(1)].argmax(dim=2)  # [B, r], a rank within b
        cls = order.new_zeros(len(order), first)
        stay = torch.cat([cls, first + alone, first + b], dim=1)
        return Matching(stay, first + a, first + alone.shape[1] + nearest)

    def matching_macs(self, length: int, r: int, layer: int, width: int, tower: Tower) -> int:
        if self._is_plain(layer, tower):
            return super().matching_macs(length, r, layer, width, tower)
        return (length - int(tower.has_cls)) ** 2 * width

    def counts_cls(self, layer: int, tower: Tower) -> bool:
        return tower.has_cls and self._is_plain(layer, tower)

    def _is_plain(self, layer: int, tower: Tower) -> bool:
        return layer < same_relative_depth(self.start_layer, PUBLISHED_DEPTH, tower.depth)


def elu(x: Tensor) -> Tensor:
    """Return x where positive, e^x - 1 elsewhere; torch's elu rounds the last entries of a tensor differently."""
    return torch.where(x > 0, x, x.expm1())
