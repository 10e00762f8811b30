"""Base class of SparseVLM and SparseVLM+: the text tokens that rate, the layers, and the published counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vlmprune.methods.base import is_changed
from vlmprune.methods.counting import exact, kept_count, round_half_up
from vlmprune.methods.decoder_base import DecoderMethod, DecoderSignals, DecoderStage
from vlmprune.methods.reductions import pairwise_sum
from vlmprune.methods.schedule import equal_factors, increasing, relative_layers
from vlmprune.methods.similarity import at_least_float32

Budget = Literal[192, 128, 96, 64]

ROWS = 512  # positions whose similarity to the text is held in memory at a time


@dataclass
class TextRated(DecoderMethod):
    """Drops visual tokens from the output of several layers, by the attention of the question's tokens in that layer.

    layers: layers (0-based) whose output is pruned, which is before the next layer.
    published_depth: number of decoder layers that `layers` refers to; elsewhere the same relative depth.
    retain: the published budget, for 576 visual tokens, if neither ratio nor keep is given. Its counts scale with
        the number of visual tokens, rounded half up; every stage drops at least one token, and keeps at least one.
    """

    layers: Sequence[int] = (2, 6, 15)
    published_depth: int = 32
    retain: Budget = 192

    tables: ClassVar[dict[int, tuple[int, ...]]]  # retain -> tokens kept at each of the three layers
    paper: ClassVar = "arXiv:2410.04417"

    def __post_init__(self) -> None:
        if not self.layers or not increasing([-1, *self.layers, self.published_depth - 1]):
            raise ValueError(
                f"layers={list(self.layers)}; allowed: one or more ascending layers of 0 to "
                f"{self.published_depth - 2} (published_depth={self.published_depth})"
            )
        if is_changed(self, "retain") and not (self.tabulated and self.budget == "published"):
            raise ValueError(
                f"retain={self.retain}: the published counts run without an amount; leave it out, or ratio=, keep=, "
                "budget=average and method.rank_adaptive"
            )
        if self.tabulated and len(self.layers) != 3:
            raise ValueError(f"layers={list(self.layers)}: the published counts are for three; give ratio= or keep=")

    @property
    def tabulated(self) -> bool:
        """True if the published counts run."""
        return self.ratio is None and self.keep is None

    def stage_layers(self, depth: int) -> list[int]:
        """Return the layers, on a decoder of `depth`, before which tokens are dropped."""
        return relative_layers(self.layers, self.published_depth, depth, shift=1)

    def stage_keeping(self, layer: int, n: int, kept: int) -> DecoderStage:
        """Return the stage that keeps `kept` of `n` tokens; at least one, and not all."""
        return DecoderStage(layer, within(n, kept))

    def stage_leaving(self, layer: int, n: int, left: int) -> DecoderStage:
        """Return the stage that leaves exactly `left` of `n` tokens."""
        return DecoderStage(layer, left)

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        layers = self.stage_layers(depth)
        if self.tabulated:
            amounts = [round_half_up(exact(kept) * n / 576) for kept in self.tables[self.retain]]
        else:
            amounts = equal_factors(n, kept_count(n, self.ratio, self.keep), len(layers))
        stages: list[DecoderStage] = []
        for layer, amount in zip(layers, amounts, strict=True):
            stage = self.stage_keeping if self.tabulated else self.stage_leaving
            stages.append(stage(layer, n, amount))
            n = stages[-1].left
        return stages

    def raters(self, embeds: Tensor, visual: Tensor, valid: Tensor) -> Tensor:
        """Return the text tokens that resemble the image most (section 3.2), bool [B, L].

        These have a mean over v of softmax_t(x_v . x_t) above its average, for visual tokens v and the text tokens t
        after the last of them. If none is above, as with one text token, all of them rate; the authors' code gives NaN.
        If no text follows, none is True and the last position rates. The authors' code takes a second image for text.
        """
        last = visual.sum(dim=1, keepdim=True)
        text = valid & ~visual & (visual.cumsum(dim=1) == last) & (last > 0)
        x = at_least_float32(embeds)
        relevance = torch.zeros_like(x[..., 0])
        for part, looks in zip(x.split(ROWS, dim=1), visual.split(ROWS, dim=1), strict=True):
            similarity = (part @ x.mT).masked_fill(~text.unsqueeze(1), torch.finfo(x.dtype).min).softmax(dim=2)
            relevance += pairwise_sum(similarity.masked_fill(~looks.unsqueeze(2), 0), dim=1) / last.clamp(min=1)
        mean = relevance.masked_fill(~text, 0).sum(dim=1, keepdim=True) / text.sum(dim=1, keepdim=True).clamp(min=1)
        above = text & (relevance > mean)
        return torch.where(above.any(dim=1, keepdim=True), above, text)

    def rater_count(self, words: int) -> int:
        return words

    def rater_macs(self, length: int, width: int) -> int:
        return length * length * width


def within(n: int, kept: int) -> int:
    """Return `kept` within the authors' bounds for `n` tokens: at most n - 1, and at least one unless n is 0."""
    return max(min(1, n), min(kept, n - 1))


def rating_rows(signals: DecoderSignals) -> Tensor:
    """Return bool [B, R]: the rows of `signals.attention` that rate; the last one if no text follows the image."""
    last = torch.zeros_like(signals.raters)
    last[:, -1] = True
    return torch.where(signals.raters.any(dim=1, keepdim=True), signals.raters, last)
