"""PruMerge+: PruMerge with spatially sampled tokens added (Shang et al., ICCV 2025)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprune.methods.base import top_k
from vlmprune.methods.prumerge import PruMerge, outliers


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
