"""SparseVLM: "Visual Token Sparsification for Efficient Vision-Language Model Inference" (Zhang et al., ICML 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Tower, is_changed
from vlmprune.methods.decoder_base import DecoderSelection, DecoderSignals, DecoderStage, best_visual, nan_scores
from vlmprune.methods.density_peaks import merge_clusters
from vlmprune.methods.reductions import pairwise_mean, pairwise_sum
from vlmprune.methods.sparsevlm_base import TextRated, rating_rows, within


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
class SparseVLM(TextRated):
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
        return RecyclingStage.keeping(layer, n, within(n, kept))

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
            return DecoderSelection(keep, unsound=unsound)
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
        return DecoderSelection(keep, hidden, order_by, unsound=unsound)


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
