"""VisPruner: "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs"
(Zhang et al., ICCV 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Selection, SequenceMethod, Signals, Widths, top_k
from vlmprune.methods.tensor_ops import pairwise_mean, products, unit

DROPPED_PER_ROUND = 8  # as in the authors' code


@dataclass
class VisPruner(SequenceMethod):
    """Keeps important tokens by [CLS] attention, then different ones by removing duplicates from the rest.

        important = the int(rho k) tokens of largest s_n, the score of FasterVLM
        diverse   = the others, less the most duplicated 8 per round until k are left in all

    A round takes the remaining tokens in their current order (at first by descending s_n), splits them into A
    (even indices) and B (odd indices), and drops from A those whose largest cosine to a token of B is greatest;
    the rest of A, in descending order of that cosine, then B, is the order of the next round. Cosines are of the
    projector's input.

    Of an odd number of tokens, A has one more than B, and a round drops at most all of A. The authors' code fails on
    most odd numbers of remaining tokens, and on most budgets of fewer than 8 diverse ones. Where it runs and keeps k
    tokens, the result is the same; so if 8 or fewer of 17 remaining tokens are to stay, all 9 of A are dropped. Where a
    round gets 2c - 1 tokens for c, 2 to 9 (c = 4: also from 14, 22, 30, ... remaining ones), their code drops one too
    many and keeps k - 1; here k are kept. It multiplies the features again in each round; here one Gram matrix holds
    all products.

    important_ratio: rho, the share of the kept tokens that is chosen by attention, 0 to 1.
    """

    important_ratio: float = 0.5

    needs: ClassVar = ("cls_attention", "features")
    paper: ClassVar = "arXiv:2412.01818"

    def __post_init__(self) -> None:
        if not 0 <= self.important_ratio <= 1:
            raise ValueError(f"important_ratio={self.important_ratio}; allowed: 0 to 1")

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        return n * n * widths.features  # one Gram matrix

    def select(self, signals: Signals, k: int) -> Selection:
        score = pairwise_mean(signals.cls_attention[-1], dim=1)  # [B, H, N] -> [B, N]
        by_score = top_k(score, score.shape[1], keep_order="score")
        important = int(k * self.important_ratio)  # truncated in floating point, as published
        x = unit(signals.features)
        diverse = drop_duplicates(by_score[:, important:], products(x, x), k - important)
        return Selection(torch.cat([by_score[:, :important], diverse], dim=1).sort(dim=1).values)


def drop_duplicates(tokens: Tensor, similarity: Tensor, count: int) -> Tensor:
    """Return the `count` of `tokens` [B, R] that are left when the most duplicated are dropped.

    similarity: [B, N, N] between all tokens of an image. All sizes are known beforehand, so the rounds need no host
    sync on a GPU.
    """
    if count == 0:
        return tokens[:, :0]
    n = similarity.shape[1]
    while tokens.shape[1] > count:
        a, b = tokens[:, 0::2], tokens[:, 1::2]
        dropped = min(DROPPED_PER_ROUND, tokens.shape[1] - count, a.shape[1])
        if (a.shape[1], b.shape[1]) == (DROPPED_PER_ROUND + 1, DROPPED_PER_ROUND) and count <= b.shape[1]:
            dropped = a.shape[1]  # the authors keep R // 2 - 8 = 0 of A, counting A as half of R = 17
        pairs = a.unsqueeze(2) * n + b.unsqueeze(1)  # [B, |A|, |B|], flat: twice as fast as two indices or more
        closeness = similarity.flatten(1).gather(1, pairs.flatten(1)).view_as(pairs)
        duplication = closeness.amax(dim=2)  # [B, |A|]
        most_duplicated_first = a.gather(1, top_k(duplication, a.shape[1], keep_order="score"))
        tokens = torch.cat([most_duplicated_first[:, dropped:], b], dim=1)
    return tokens
