"""DivPrune: "Diversity-based Visual Token Pruning for Large Multimodal Models" (Alvar et al., CVPR 2025)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Selection, SequenceMethod, Signals, Widths
from vlmprune.methods.tensor_ops import products, unit


@dataclass
class DivPrune(SequenceMethod):
    """Keeps tokens that differ as much as possible: the max-min diversity problem, solved greedily.

        first = argmax_i  min over j != i of d(i, j),            d = 1 - cosine of the projector's outputs
        next  = argmax_i  min over selected s of d(s, i)         until k are selected

    Kept tokens stay in raster order. The authors' code computes the minimum over all selected tokens again in
    each step, O(k^2 N); a running minimum is O(k N). It may select a token twice once every different one is
    selected, because d(s, s) ~ 0 alone excludes it; here selected tokens are masked, so that k different ones are
    kept. It ranks LLaVA-NeXT's newline embeddings with the patches; here newlines are not visual tokens.
    """

    needs: ClassVar = ("projected",)
    published_scope: ClassVar = "image"
    paper: ClassVar = "arXiv:2503.02175"

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        return n * n * widths.projected  # one Gram matrix

    def select(self, signals: Signals, k: int) -> Selection:
        x = unit(signals.projected)  # [B, N, D]
        return Selection(max_min_diverse(1 - products(x, x), k).sort(dim=1).values)


def max_min_diverse(distance: Tensor, k: int) -> Tensor:
    """Return the `k` tokens [B, k], each the farthest from all before it, in the order of selection.

    distance: [B, N, N], its diagonal is not read. Of equally far tokens the one of lowest index is taken.
    """
    images, n, _ = distance.shape
    image = torch.arange(images, device=distance.device)
    itself = torch.eye(n, dtype=torch.bool, device=distance.device)
    farthest = distance.masked_fill(itself, math.inf).amin(dim=2)  # [B, N]: first, the distance to the nearest other
    to_selected = distance.new_full((images, n), math.inf)
    selected = torch.empty(images, k, dtype=torch.long, device=distance.device)
    for step in range(k):
        pick = farthest.argmax(dim=1)
        selected[:, step] = pick
        to_selected = torch.minimum(to_selected, distance[image, pick])
        to_selected[image, pick] = -math.inf  # excluded from all later steps
        farthest = to_selected
    return selected
