"""PruMerge and PruMerge+.

PruMerge: "LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models"
(Shang et al., ICCV 2025).

PruMerge+: PruMerge with spatially sampled tokens added (Shang et al., ICCV 2025).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Selection, SequenceMethod, Signals, Tower, Widths, top_k
from vlmprune.methods.tensor_ops import at_least_float32, products, unit


@dataclass
class PruMerge(SequenceMethod):
    """Keeps the outliers of [CLS] attention, adds to each its most similar tokens, and sums the rest into one token.

        a     = softmax(q_[CLS] . K^T / sqrt(C)) in the last layer, with all heads taken as one
        kept  = {i : a_i > Q3 + 1.5 (Q3 - Q1)}, the quartiles being those of the image's own a
        out_i = f_i + sum over the 32 tokens j of most similar key (cosine) of a_j f_j
        extra = sum over all tokens j that are not kept of a_j f_j

    with f the projector's input. Adaptive, as published, if neither `ratio` nor `keep` is given: images then
    keep different numbers of tokens, which `Selection.valid` marks. With `ratio` or `keep`, the k - 1 tokens of
    largest a and the extra are kept. The authors' code takes the quartiles over the whole batch, so that an
    image's tokens depend on the other images; it needs at least 33 patches, while here a smaller image takes
    fewer neighbors. An image without outliers gives the extra token alone.

    Output order: kept tokens by descending a, then the extra. A kept token keeps its slot, the extra takes that
    of the most attended token in it; the 2D order is lost where positions are renumbered, as in the authors'
    code.

    neighbors: number of tokens that are added to each kept one.
    """

    neighbors: int = 32

    needs: ClassVar = ("queries", "keys", "features")
    merges: ClassVar = True
    scopes: ClassVar = ("tile",)  # the [CLS] query belongs to one tile
    paper: ClassVar = "arXiv:2403.15388"

    def __post_init__(self) -> None:
        if self.neighbors < 0:
            raise ValueError(f"neighbors={self.neighbors}: tokens added to each kept one; allowed: 0 or more")

    @property
    def adaptive(self) -> bool:
        """True if the number of kept tokens depends on the image."""
        return self.ratio is None and self.keep is None

    def keeps_all(self, n: int) -> bool:
        return not self.adaptive and super().keeps_all(n)

    def layers(self, tower: Tower) -> tuple[int, ...]:
        return (tower.depth - 1,)

    def rank(self, attention: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return all tokens, int64 [B, N], those to keep first, and the number to keep, int64 [B, 1]."""
        order = top_k(attention, attention.shape[1], keep_order="score")
        if self.adaptive:
            return order, outliers(attention).sum(dim=1, keepdim=True)
        return order, torch.full_like(order[:, :1], k - 1)

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        # The [CLS] row, then cosines and merging of k rows. If adaptive, k is the image's own count.
        return (1 + n) * widths.keys + k * n * (widths.keys + widths.features)

    def select(self, signals: Signals, k: int) -> Selection:
        keys = at_least_float32(signals.keys[-1]).transpose(1, 2).flatten(2)  # [B, 1+N, C]
        query = at_least_float32(signals.queries[-1][:, :, 0]).flatten(1)  # [B, C]
        logits = products(query.unsqueeze(1), keys).squeeze(1) / math.sqrt(keys.shape[2])
        attention = logits.softmax(dim=1)[:, 1:]  # [B, N], [CLS]->[CLS] dropped, not renormalised

        order, kept = self.rank(attention, k)
        rows = min(int(kept.max()) + 1, order.shape[1]) if self.adaptive else k  # no extra token if all are kept
        row = torch.arange(rows, device=order.device)
        weights = merge_weights(attention, unit(keys[:, 1:]), order[:, :rows], self.neighbors)
        is_kept = torch.arange(order.shape[1], device=order.device) < kept  # [B, N] along `order`
        left = attention.masked_fill(torch.zeros_like(is_kept).scatter(1, order, is_kept), 0)
        weights = torch.where((row == kept).unsqueeze(2), left.unsqueeze(1), weights)
        merged = (weights @ at_least_float32(signals.features)).to(signals.features.dtype)
        return Selection(order[:, :rows], merged, row <= kept if self.adaptive else None)


def outliers(attention: Tensor) -> Tensor:
    """Return bool [B, N]: above the image's third quartile by more than 1.5 interquartile ranges."""
    quartiles = torch.quantile(attention, attention.new_tensor([0.25, 0.75]), dim=1)
    q1, q3 = quartiles.unsqueeze(2)  # [B, 1] each
    return attention > q3 + 1.5 * (q3 - q1)


def merge_weights(attention: Tensor, keys: Tensor, kept: Tensor, neighbors: int) -> Tensor:
    """Return the weights of the N tokens in each kept one, [B, k, N]: 1 for itself, a_j for its nearest by key, else 0.

    attention: [B, N]. keys: [B, N, C] of length 1. kept: int64 [B, k].
    """
    itself = kept.unsqueeze(2)
    similarity = products(keys.gather(1, itself.expand(-1, -1, keys.shape[2])), keys)
    similarity.scatter_(2, itself, -math.inf)
    nearest = top_k(similarity, min(neighbors, keys.shape[1] - 1), keep_order="score")
    added = attention.unsqueeze(1).expand_as(similarity).gather(2, nearest)
    return torch.zeros_like(similarity).scatter_(2, nearest, added).scatter_(2, itself, 1)


@dataclass
class PruMergePlus(PruMerge):
    """PruMerge that also keeps evenly spaced tokens, more of them where there are more outliers.

        sampled = {0, stride, 2 stride, ... < N - 1},  stride = (N // outliers) // 3
        kept    = outliers by descending a, then sampled tokens that are not outliers by position

    Merging and the extra token are as in PruMerge. Adaptive, as published, if neither `ratio` nor `keep` is
    given. An image without outliers, where the authors' code divides by zero, is sampled as if it had one:
    about 3 tokens, and the extra.

    With `ratio` or `keep`, k - 1 tokens and the extra are kept: (k - 1) // 2 are sampled at the centres of as many
    equal intervals of the raster (the authors' step // 2, step // 2 + step, ...), the others are the most
    attended ones that are not sampled. The authors' code keeps a token that is in both halves twice (8 of 144
    at ratio 7/8 in the recorded vectors) and then omits as many others from the extra; here each token counts
    once.
    """

    def rank(self, attention: Tensor, k: int) -> tuple[Tensor, Tensor]:
        n = attention.shape[1]
        position = torch.arange(n, device=attention.device).expand(len(attention), n)
        if self.adaptive:
            important = outliers(attention)
            stride = n // important.sum(dim=1, keepdim=True).clamp(min=1) // 3
            # At most a quarter of the tokens are outliers, so the stride is at least 1 unless n < 3.
            sampled = (position % stride.clamp(min=1) == 0) & (position < n - 1)
        else:
            count = max(0, k - 1) // 2
            centres = [(2 * i + 1) * n // (2 * count) for i in range(count)]
            sampled = torch.zeros_like(position, dtype=torch.bool)
            sampled[:, centres] = True
            top = top_k(attention.masked_fill(sampled, -math.inf), max(0, k - 1 - count))
            important = torch.zeros_like(sampled).scatter(1, top, True)

        by_attention = top_k(attention, n, keep_order="score")
        rank = torch.empty_like(position).scatter(1, by_attention, position)  # [B, N], 0 is the most attended
        place = torch.where(important, rank, torch.where(sampled, n + position, 2 * n + rank))
        return place.argsort(dim=1), (important | sampled).sum(dim=1, keepdim=True)
