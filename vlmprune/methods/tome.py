"""ToMe: "Token Merging: Your ViT But Faster" (Bolya et al., ICLR 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Tower
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.methods.merging import Matching
from vlmprune.methods.tensor_ops import products, unit


@dataclass
class ToMe(VisionMethod):
    """Merges similar tokens after every encoder layer, by bipartite soft matching (section 3).

        A, B = tokens at even and at odd positions ([CLS] is A's first and is never merged)
        b(a) = argmax over b of cos(a, b);  the r of A with the largest cos(a, b(a)) are merged into b(a)

    Output order: the rest of A by position (without a [CLS] by falling cosine, as published), then B. For classifiers,
    the paper compares attention keys between attention and MLP, and weighs means and attention by token sizes. This is
    its application to LLaVA in PiToMe's repository: layer outputs are compared, and merged tokens are plain means. That
    code merges up to the last layer, which LLaVA does not read; here merging ends at the layer that LLaVA reads.
    """

    paper: ClassVar = "arXiv:2210.09461"

    def match(self, metric: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        return bipartite_soft_matching(metric, r, tower.has_cls)

    def matching_macs(self, length: int, r: int, layer: int, width: int, tower: Tower) -> int:
        return (length + 1) // 2 * (length // 2) * width


def bipartite_soft_matching(metric: Tensor, r: int, has_cls: bool) -> Matching:
    """Match the `r` most similar tokens of A with their nearest of B, by the cosine of `metric` [B, T, C]."""
    x = unit(metric)
    cosine = products(x[:, 0::2], x[:, 1::2])  # [B, |A|, |B|]
    if has_cls:
        cosine[:, 0] = -torch.inf
    best, nearest = cosine.max(dim=2)
    order = best.sort(dim=1, descending=True, stable=True).indices
    merged, rest = order[:, :r], order[:, r:]
    if has_cls:
        rest = rest.sort(dim=1).values
    odd = 2 * torch.arange(cosine.shape[2], device=x.device).expand(len(x), -1) + 1
    return Matching(torch.cat([2 * rest, odd], dim=1), 2 * merged, rest.shape[1] + nearest.gather(1, merged))
