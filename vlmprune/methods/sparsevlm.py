"""SparseVLM and SparseVLM+.

SparseVLM: "Visual Token Sparsification for Efficient Vision-Language Model Inference" (Zhang et al., ICML 2025).

Base class of SparseVLM and SparseVLM+: the text tokens that rate, the layers, and the published counts.

Merging by density-peaks clustering (Rodriguez and Laio, Science 2014) with kNN densities (Du et al., 2016).

SparseVLM+: the authors' second version of SparseVLM (Zhang et al., arXiv:2410.04417; released as v2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vlmprune.methods.base import Tower, is_changed
from vlmprune.methods.budget import equal_factors, is_increasing, kept_count, relative_layers, round_half_up, to_decimal
from vlmprune.methods.decoder_method import (
    DecoderMethod,
    DecoderSelection,
    DecoderSignals,
    DecoderStage,
    best_visual,
    nan_scores,
)
from vlmprune.methods.tensor_ops import at_least_float32, pairwise_mean, pairwise_sum

Budget = Literal[192, 128, 96, 64]

ROWS = 512  # positions whose similarity to the text is held in memory at a time


@dataclass
class TextRatedMethod(DecoderMethod):
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
        if not self.layers or not is_increasing([-1, *self.layers, self.published_depth - 1]):
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
        return DecoderStage(layer, clamp_kept(n, kept))

    def stage_leaving(self, layer: int, n: int, left: int) -> DecoderStage:
        """Return the stage that leaves exactly `left` of `n` tokens."""
        return DecoderStage(layer, left)

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        layers = self.stage_layers(depth)
        if self.tabulated:
            amounts = [round_half_up(to_decimal(kept) * n / 576) for kept in self.tables[self.retain]]
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


def clamp_kept(n: int, kept: int) -> int:
    """Return `kept` within the authors' bounds for `n` tokens: at most n - 1, and at least one unless n is 0."""
    return max(min(1, n), min(kept, n - 1))


def rating_rows(signals: DecoderSignals) -> Tensor:
    """Return bool [B, R]: the rows of `signals.attention` that rate; the last one if no text follows the image."""
    last = torch.zeros_like(signals.raters)
    last[:, -1] = True
    return torch.where(signals.raters.any(dim=1, keepdim=True), signals.raters, last)


def merge_clusters(x: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Cluster the q tokens of every row of x [B, q, C] and add up each cluster.

        d_ij    = |x_i - x_j| / sqrt(C)
        rho_i   = exp(-mean of the `clusters` smallest d_ij^2, including j = i)
        delta_i = min of d_ij over the j of larger rho; for the densest, the largest d of the row
        centres = the largest rho_i delta_i; each other token goes to the nearest centre
        merged  = sum of a cluster / (its size + 1e-6)

    The authors' random 1e-6 on rho is left out: of two tokens of equal density neither is denser, so that two densest
    ones (with two clusters, any mutual neighbours have equal density) both become centres. Of equal products, and of
    equally near centres, the first is taken.

    Returns the centres, int64 [B, clusters] by descending product, and the merged tokens [B, clusters, C].
    """
    wide = at_least_float32(x)
    # The faster way by a matrix product gives equal tokens a distance above 0, and close long ones a wrong one.
    distance = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(x.shape[2])
    nearest = distance.topk(clusters, dim=2, largest=False).values
    rho = (-pairwise_mean(nearest.square(), dim=2)).exp()

    denser = rho.unsqueeze(1) > rho.unsqueeze(2)  # [B, i, j]: j is denser than i
    to_denser = distance.masked_fill(~denser, math.inf).amin(dim=2)
    delta = torch.minimum(to_denser, distance.amax(dim=(1, 2)).unsqueeze(1))  # `to_denser` is inf if none is denser

    centres = (rho * delta).sort(dim=1, descending=True, stable=True).indices[:, :clusters]
    to_centre = distance.gather(1, centres.unsqueeze(2).expand(-1, -1, x.shape[1]))  # [B, clusters, q]
    to_centre.scatter_(2, centres.unsqueeze(2), -1)  # a centre belongs to its own cluster, even if another one is equal
    cluster = to_centre.argmin(dim=1)
    member = torch.nn.functional.one_hot(cluster, clusters).to(wide.dtype)  # [B, q, clusters]
    merged = (member.mT @ wide) / (member.sum(dim=1).unsqueeze(2) + 1e-6)
    return centres, merged.to(x.dtype)


@dataclass(frozen=True)
class RecyclingStage(DecoderStage):
    """Stage that merges the `candidates` best of the dropped tokens."""

    candidates: int = 0

    @classmethod
    def keeping(cls, layer: int, n: int, kept: int) -> RecyclingStage:
        """Return the published stage: of D dropped tokens int(0.3 D) + 1 are recycled, ten or fewer into one."""
        candidates = 3 * (n - kept) // 10 + 1 if kept < n else 0
        return cls(layer, kept, candidates // 10 + 1 if candidates else 0, candidates)


@dataclass
class SparseVLM(TextRatedMethod):
    """Drops visual tokens at three layers by attention from text tokens, and recycles some of them (section 3).

        raters = {t : r_t > mean r},  r_t = mean over visual v of softmax_t(x_v . x_t)      input embeddings
        s_j    = mean over raters and heads of softmax(q_t . K^T / sqrt(d))_j              in the layer that is pruned

    over the text tokens t after the sample's last image. The k best visual tokens stay. Of the D others the
    q = int(0.3 D) + 1 best become c = int(q / 10) + 1 new ones, by density-peaks clustering and summation (see
    `merge_clusters`). These follow the last visual token, in that function's order, and positions are renumbered. Where
    positions are kept, each takes the position of its cluster's centre. If no r_t is above the mean, see `raters`.

    With `ratio`, the share dropped at the end, or `keep`, the number left at the end, N is reduced in equal factors
    as in PyramidDrop, merged tokens included: k is the largest for which k + c is within a stage's number. At least
    one token is kept; if that leaves no room for c, fewer tokens are merged, from ten candidates each. With neither,
    the published counts for `retain` apply.

    recycle: merge the best of the dropped tokens (token recycling).
    rank_adaptive: the paper's rule instead of counts, as in the authors' v1.0, where layers are 2, 6, 15 and 19:
        k = int(scale rank(P) + bias), P being the raters' rows, averaged over heads, of the visual tokens; if the rank
        equals the number of these, all stay. The counts are known on the device only: one host sync per stage.
    scale, bias: of rank_adaptive; 13.5 and 0 for 192 tokens, 9 and 6 for 128, 0.8 and 0 for 64.
    """

    recycle: bool = True
    rank_adaptive: bool = False
    scale: float = 13.5
    bias: float = 0.0

    tables: ClassVar = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
    published_positions: ClassVar = "renumber"
    merges: ClassVar = True

    def __post_init__(self) -> None:
        if self.rank_adaptive and (self.ratio is not None or self.keep is not None or self.budget != "published"):
            raise ValueError(
                f"rank_adaptive=True with ratio={self.ratio}, keep={self.keep}, budget={self.budget}: the prompt "
                "decides how many tokens stay; set scale= and bias= instead"
            )
        for name in ("scale", "bias"):
            if is_changed(self, name) and not self.rank_adaptive:
                raise ValueError(
                    f"{name}={getattr(self, name)} is of method.rank_adaptive=true; set that, or leave it out"
                )
        super().__post_init__()

    @property
    def tabulated(self) -> bool:
        return super().tabulated and not self.rank_adaptive

    def check(self, tower: Tower, depth: int) -> None:
        if self.rank_adaptive:
            self.stage_layers(depth)
        else:
            super().check(tower, depth)

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        if self.rank_adaptive:
            return [DecoderStage(layer, n) for layer in self.stage_layers(depth)]  # the upper bound
        return super().schedule(depth, n)

    def stage_keeping(self, layer: int, n: int, kept: int) -> DecoderStage:
        if not self.recycle:
            return super().stage_keeping(layer, n, kept)
        return RecyclingStage.keeping(layer, n, clamp_kept(n, kept))

    def stage_leaving(self, layer: int, n: int, left: int) -> DecoderStage:
        if not self.recycle or left == 0:
            return super().stage_leaving(layer, n, left)
        for kept in range(left, 0, -1):
            stage = RecyclingStage.keeping(layer, n, kept)
            if stage.left <= left:
                return stage
        return RecyclingStage(layer, 1, left - 1, min(stage.candidates, 10 * (left - 1)))

    def score(self, signals: DecoderSignals) -> Tensor:
        rates = rating_rows(signals).unsqueeze(2)  # [B, R, 1]
        rows = pairwise_mean(signals.attention, dim=1).masked_fill(~rates, 0)  # [B, H, R, L] -> [B, R, L]
        return pairwise_sum(rows, dim=1) / rates.sum(dim=1)

    def select(self, signals: DecoderSignals, stages: Sequence[DecoderStage]) -> DecoderSelection:
        score = self.score(signals)
        if not self.rank_adaptive:
            return self._choose(signals, score, stages)
        found = [
            DecoderStage(stage.layer, n)
            if rank == n
            else self.stage_keeping(stage.layer, n, int(rank * self.scale + self.bias))
            for stage, (rank, n) in zip(stages, ranks(signals), strict=True)
        ]
        return replace(self._choose(signals, score, found), left=[stage.left for stage in found])

    def stage_macs(self, stage: DecoderStage, length: int, raters: int, width: int, head_width: int) -> int:
        # The sums over clusters; with rank_adaptive their number is not known beforehand, and they are not counted.
        return stage.candidates * stage.merged * width if isinstance(stage, RecyclingStage) else 0

    def _choose(self, signals: DecoderSignals, score: Tensor, stages: Sequence[DecoderStage]) -> DecoderSelection:
        keep = best_visual(score, signals.visual, [stage.kept for stage in stages])
        unsound = nan_scores(score, signals.visual)
        alike: dict[RecyclingStage, list[int]] = {}
        for row, stage in enumerate(stages):
            if isinstance(stage, RecyclingStage) and stage.merged:
                alike.setdefault(stage, []).append(row)
        if not alike:
            return DecoderSelection(keep, unsound=unsound, scores=score)
        dropped = score.masked_fill(~signals.visual | keep, -math.inf).sort(dim=1, descending=True, stable=True).indices
        position = torch.arange(score.shape[1], device=score.device)
        last = (position * signals.visual).amax(dim=1, keepdim=True)
        room = 1 + max(stage.merged for stage in alike)  # sort keys between one position and the next
        order = (position * room).repeat(len(stages), 1)
        hidden = signals.hidden.clone()
        for stage, members in alike.items():
            rows = torch.tensor(members).to(score.device, non_blocking=True).unsqueeze(1)
            candidates = dropped[rows.squeeze(1), : stage.candidates]
            centres, merged = merge_clusters(hidden[rows, candidates], stage.merged)
            slots = candidates.gather(1, centres)
            keep[rows, slots] = True
            hidden[rows, slots] = merged
            order[rows, slots] = last[rows.squeeze(1)] * room + 1 + position[: stage.merged]
        order_by = None if self.position_rule == "keep" else order
        return DecoderSelection(keep, hidden, order_by, unsound=unsound, scores=score)


def ranks(signals: DecoderSignals) -> list[list[int]]:
    """Return for each sample the rank of its raters' rows over its visual tokens, and the number of these tokens."""
    rates, visual = rating_rows(signals), signals.visual
    rows = pairwise_mean(signals.attention, dim=1) * rates.unsqueeze(2)  # zeros do not change a rank
    rows = rows * visual.unsqueeze(1)
    singular = torch.linalg.svdvals(rows)
    count = visual.sum(dim=1)
    larger = torch.maximum(count, rates.sum(dim=1))  # of the matrix without the zeros, as in torch's matrix_rank
    least = singular.amax(dim=1) * larger * torch.finfo(singular.dtype).eps
    return torch.stack([(singular > least.unsqueeze(1)).sum(dim=1), count], dim=1).tolist()


@dataclass
class SparseVLMPlus(TextRatedMethod):
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
