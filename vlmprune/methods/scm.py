"""Mini-Monkey: "Alleviating the Semantic Sawtooth Effect for Lightweight MLLMs via Complementary Image Pyramid"
(Huang et al., ICLR 2025): its scale compression mechanism, SCM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Tower
from vlmprune.methods.budget import kept_count
from vlmprune.methods.decoder_method import (
    DecoderMethod,
    DecoderSelection,
    DecoderSignals,
    DecoderStage,
    best_visual,
    nan_scores,
)
from vlmprune.methods.tensor_ops import pairwise_mean, pairwise_sum


@dataclass
class ScaleCompression(DecoderMethod):
    """Keeps the tokens of high-resolution tiles to which all positions after the tiles attend most (section 3.3).

        s_j = mean over heads and over all positions after the tiles of softmax(q . K^T / sqrt(d))_j   in layer 1

    The global view and the text stay. `ratio` and `keep` count the tiles' tokens; with neither, half of them stay,
    rounded down, as published. Mini-Monkey has tiles of two grids, one of which is the high-resolution block; in other
    models all tiles are. Where the global view comes first (LLaVA-NeXT), only text comes after the tiles. The authors'
    code drops the first token after the block by an off-by-one; here it stays. The number of tile tokens is known on
    the device only, so that this method costs two more host syncs.

    k: decoder layers that are run to score (published: 2).
    restart: as published, the decoder starts again from layer 0 on the kept tokens, so that no layer of the answer saw
        more; False drops before layer k instead, which costs less.
    """

    k: int = 2
    restart: bool = True

    needs: ClassVar = ("decoder_attention", "tiles")
    published_positions: ClassVar = "renumber"
    paper: ClassVar = "arXiv:2408.02034"

    def __post_init__(self) -> None:
        if self.budget == "average":
            raise ValueError("budget=average: how much of a prompt is tiles depends on its images; allowed: published")

    @property
    def restarts(self) -> bool:
        return self.restart

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        if not 1 <= self.k < depth:
            raise ValueError(f"k={self.k} on a decoder of {depth} layers; allowed: 1 to {depth - 1}")
        return [DecoderStage(self.k, n)]  # the upper bound; `select` returns the number

    def count(self, n: int) -> int:
        return n // 2 if self.ratio is None and self.keep is None else kept_count(n, self.ratio, self.keep)

    def raters(self, embeds: Tensor, visual: Tensor, valid: Tensor) -> Tensor:
        return valid  # `score` takes those after the tiles

    def score(self, signals: DecoderSignals) -> Tensor:
        behind = signals.valid & (signals.detail.flip(1).cumsum(dim=1).flip(1) == 0)
        behind = behind[:, -signals.attention.shape[2] :]
        rows = pairwise_mean(signals.attention, dim=1).masked_fill(~behind.unsqueeze(2), 0)  # [B, R, L]
        return pairwise_sum(rows, dim=1) / behind.sum(dim=1, keepdim=True).clamp(min=1)

    def select(self, signals: DecoderSignals, stages: Sequence[DecoderStage]) -> DecoderSelection:
        facts = torch.stack([signals.detail.sum(dim=1), (signals.visual & ~signals.detail).sum(dim=1)])
        tiles, others = facts.tolist()
        kept = [self.count(n) for n in tiles]
        score = self.score(signals)
        keep = best_visual(score, signals.detail, kept) | (signals.visual & ~signals.detail)
        left = [k + n for k, n in zip(kept, others, strict=True)]
        return DecoderSelection(keep, left=left, unsound=nan_scores(score, signals.detail), scores=score)

    def check(self, tower: Tower, depth: int) -> None:
        self.schedule(depth, 1)
