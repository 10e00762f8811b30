"""VisionZip: "Longer is Better but Not Necessary in Vision Language Models" (Yang et al., CVPR 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from vlmprune.methods.base import Selection, SequenceMethod, Signals, Tower, Widths, top_k
from vlmprune.methods.budget import round_half_up, to_decimal
from vlmprune.methods.merging import rows_of
from vlmprune.methods.tensor_ops import at_least_float32, pairwise_mean, pairwise_sum, products, unit


@dataclass
class VisionZip(SequenceMethod):
    """Keeps dominant tokens by [CLS] attention and merges the others into a few contextual tokens.

        dominant   = [CLS] and the D - 1 patches of largest sum over heads of softmax(q_[CLS] . K^T / sqrt(d))
        targets    = every R // K-th of the R = N + 1 - D remaining patches, the first K of these
        contextual = h_target + mean of h over the remaining patches that are closest to the target

    with h the projector's input and closeness the cosine of keys, averaged over heads, both of the feature
    layer. A contextual token is thus a sum, of about twice the usual norm, not a mean, as in the authors'
    code. The budget k = D + K counts [CLS]. Published splits are 54 + 10, 108 + 20 and 162 + 30; other
    budgets are split in the same proportion.

    Output order: [CLS], dominant patches by position, contextual tokens by position of their targets. Their slots are
    those of the dominant patches, those of the targets, and the first free one. Where positions are renumbered, as
    published, the tokens take these in that order; where they are kept, a patch takes its own slot, a contextual token
    that of its target, and [CLS] the free one. Order of several tiles (LLaVA-NeXT, renumbered), as published: the first
    tile's tokens in the order above, then the dominant patches of all others row by row over the whole image, then the
    [CLS] of each tile, then the contextual tokens tile by tile. The tokens of a video frame stay together; for these
    nothing is published.

    contextual: K; None: the published share, 10 of 64, at least 1 of a budget of 2 or more. A tile whose unpadded part
        is too small for K keeps [CLS] and as many contextual tokens as fit.
    """

    contextual: int | None = None

    needs: ClassVar = ("cls_attention", "keys", "features", "cls_feature")
    merges: ClassVar = True
    scopes: ClassVar = ("tile",)  # [CLS] belongs to one tile
    paper: ClassVar = "arXiv:2412.04467"

    def split(self, k: int) -> tuple[int, int]:
        """Return (D, K) for a budget of `k` tokens: dominant ones with [CLS], and contextual ones."""
        if k == 0:
            return 0, 0
        if self.contextual is None:
            contextual = min(k - 1, max(1, round_half_up(to_decimal(k) * 10 / 64)))
        else:
            contextual = min(self.contextual, k - 1)
        return k - contextual, contextual

    def check(self, tower: Tower, depth: int) -> None:
        super().check(tower, depth)
        k = self.count(tower.grid[0] * tower.grid[1])
        if self.contextual is not None and k and not 0 <= self.contextual < k:
            raise ValueError(f"contextual={self.contextual} of keep={k}; allowed: 0 to {k - 1}")

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        dominant, contextual = self.split(k)
        return (n + 1 - dominant) * contextual * (widths.head + widths.features)  # cosines of mean keys, then merging

    def select(self, signals: Signals, k: int) -> Selection:
        h = signals.features
        if k == 0:
            return Selection(torch.zeros(len(h), 0, dtype=torch.long, device=h.device), h[:, :0])
        dominant_count, contextual_count = self.split(k)
        dominant = top_k(pairwise_sum(signals.cls_attention[-1], dim=1), dominant_count - 1)  # [B, D-1], ascending
        taken = torch.zeros(h.shape[:2], dtype=torch.bool, device=h.device).scatter(1, dominant, True)
        rest = top_k((~taken).int(), h.shape[1] - dominant.shape[1])  # [B, R], ascending
        step = rest.shape[1] // max(1, contextual_count)  # at least 1, since K < R wherever k <= N
        targets = rest[:, : contextual_count * step : step]  # [B, K]
        first_free = taken.scatter(1, targets, True).int().argmin(dim=1, keepdim=True)

        merged = [signals.cls_feature.unsqueeze(1), rows_of(h, dominant)]
        if contextual_count:
            key = unit(pairwise_mean(signals.keys[-1][:, :, 1:], dim=1))  # [B, H, 1+N, d] -> [B, N, d]
            closest = products(rows_of(key, rest), rows_of(key, targets)).argmax(dim=2)  # [B, R]
            assigned = torch.nn.functional.one_hot(closest, contextual_count).to(key.dtype)  # [B, R, K]
            assigned[:, : contextual_count * step : step] = 0  # a target is not merged into itself or another
            total = assigned.mT @ at_least_float32(rows_of(h, rest))  # [B, K, C]
            mean = total / assigned.sum(dim=1).clamp(min=1).unsqueeze(2)  # 0 where nothing is assigned
            merged.append((rows_of(h, targets) + mean).to(h.dtype))
        return Selection(
            torch.cat([first_free, dominant, targets], dim=1),
            torch.cat(merged, dim=1),
            blocks=(1, *[0] * (dominant_count - 1), *[2] * contextual_count),
        )
