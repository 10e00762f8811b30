"""SparseVLM+: the authors' second version of SparseVLM (Zhang et al., arXiv:2410.04417; released as v2.0)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.decoder_base import DecoderSignals, DecoderStage
from vlmprune.methods.reductions import pairwise_mean, pairwise_sum
from vlmprune.methods.sparsevlm_base import TextRated, rating_rows


@dataclass
class SparseVLMPlus(TextRated):
    """SparseVLM without recycling, with a correction for position and the heads that attend to the image most.

        P'_htj = P_htj / B_tj,  B_tj = (2 / sqrt d) sum over i < d/2 of cos((p_t - p_j) theta_i)
        heads  = the 14 with the largest sum of P' over raters and visual tokens
        s_j    = mean over these heads and over raters of P'_htj

    Raters are those of SparseVLM. B is the product of constant queries and keys after RoPE at positions p; it can be
    negative, and is used unchanged. Kept tokens keep their order and their original positions; nothing is merged. With
    `ratio`, the share dropped at the end, or `keep`, the number left at the end, N is reduced in equal factors as in
    PyramidDrop; with neither, the published counts for `retain` apply.

    heads: number of heads that rate; 14 for both 32 and 40, as in the authors' code. All of them if there are fewer.
    """

    heads: int = 14

    tables: ClassVar = {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)}
    published_positions: ClassVar = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1:
            raise ValueError(f"heads={self.heads}; allowed: 1 or more")

    def score(self, signals: DecoderSignals) -> Tensor:
        rates = rating_rows(signals)
        bias = position_bias(signals.positions, signals.frequencies, rates.shape[1])
        corrected = signals.attention / bias.unsqueeze(1)
        corrected = corrected.masked_fill(~rates[:, None, :, None], 0)
        rated = pairwise_sum(corrected, dim=2) / rates.sum(dim=1)[:, None, None]
        looks = rated.masked_fill(~signals.visual.unsqueeze(1), 0).sum(dim=2)  # [B, H]
        best = looks.sort(dim=1, descending=True, stable=True).indices[:, : self.heads]
        return pairwise_mean(rated.gather(1, best.unsqueeze(2).expand(-1, -1, rated.shape[2])), dim=1)

    def stage_macs(self, stage: DecoderStage, length: int, raters: int, width: int, head_width: int) -> int:
        return raters * length * head_width  # position_bias


def position_bias(positions: Tensor, frequencies: Tensor, rows: int) -> Tensor:
    """Return B, [B, rows, L], of the last `rows` positions: the product of two rotated vectors of ones, over sqrt(d).

    positions: int64 [B, L]. frequencies: [d/2] radians per position.
    """
    angle = positions.unsqueeze(2) * frequencies.float()
    # cos(a - b) = cos a cos b + sin a sin b, so that no [B, rows, L, d/2] is needed.
    rotated = torch.cat([angle.cos(), angle.sin()], dim=2)
    return rotated[:, -rows:] @ rotated.mT * (2 / rotated.shape[2] ** 0.5)
