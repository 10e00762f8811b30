"""Base class of methods inside the language model: a schedule of decoder layers, and the tokens kept before each.

Shapes: B samples, L positions of the running sequence, H heads, R query rows, D decoder width, d head width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vlmprune.methods.base import Method, NoAmount, Positions, Tower
from vlmprune.methods.budget import kept_count
from vlmprune.methods.contract import check_scores


@dataclass(frozen=True)
class DecoderStage:
    """Visual tokens of a sample from decoder layer `layer` (0-based) on: `kept` unchanged ones, and `merged` new ones
    that replace some of the others."""

    layer: int
    kept: int
    merged: int = 0

    @property
    def left(self) -> int:
        """Number of visual tokens from this layer on."""
        return self.kept + self.merged


@dataclass
class DecoderSignals:
    """Signals that a method inside the language model may read before layer K, for B samples of L positions.

    attention: float32 [B, H, R, L], post-softmax rows of the last R positions. raters: bool [B, R], True for the rows
    that the method asked for. hidden: [B, L, D], the input of layer K. visual, detail, valid: bool [B, L]; detail marks
    the visual tokens of high-resolution tiles (all of them where the model has no tiles); valid is False on padding.
    positions: int64 [B, L], the temporal ones where there are three kinds. frequencies: [d/2], the rotary embedding's
    radians per position, for heads of width d.
    """

    attention: Tensor
    raters: Tensor
    hidden: Tensor
    visual: Tensor
    detail: Tensor
    valid: Tensor
    positions: Tensor
    frequencies: Tensor


@dataclass
class DecoderSelection:
    """Visual tokens that are kept from layer K on.

    keep: bool [B, L], True at kept visual positions; text is always kept. hidden: None, or [B, L, D] with the new
    embeddings of merged tokens at kept positions. order: None to leave the order as it is, or int64 [B, L] sort keys
    of the new sequence (equal keys keep their order). left: visual tokens left in each sample, on the host, if only the
    method knows them; None if they are those of the stage. unsound: None, or bool [B], True where a score was nan, so
    that the choice means nothing and the prompt is refused. scores: None, or [B, L], for pictures, the scores of visual
    positions.
    """

    keep: Tensor
    hidden: Tensor | None = None
    order: Tensor | None = None
    left: list[int] | None = None
    unsound: Tensor | None = None
    scores: Tensor | None = None


@dataclass
class DecoderMethod(Method, ABC):
    """Base class of methods that drop visual tokens before decoder layers, by attention inside the decoder.

    budget: `published` takes `ratio` and `keep` as the authors do, for the layers after the drop. `average` takes them
    for the mean over all decoder layers, so that the cost equals that of a method before the language model at the same
    ratio.

    reads: `previous` if the attention is that of layer K-1 (FastV), `own` if it is what layer K would compute on its
    own input (PyramidDrop).
    """

    budget: Literal["published", "average"] = "published"

    stage: ClassVar[Literal["decoder"]] = "decoder"
    needs: ClassVar[tuple[str, ...]] = ("decoder_attention",)
    published_positions: ClassVar[Positions] = "keep"
    reads: ClassVar[Literal["previous", "own"]] = "previous"

    @abstractmethod
    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        """Return the published schedule on a decoder of `depth` layers for a sample with `n` visual tokens.

        At least one stage. Layers are ascending ints from 1 to depth - 1, the same for every `n`; the numbers left are
        ints of 0 or more that never rise; a sample with fewer tokens keeps them all.
        """

    def stages(self, depth: int, n: int) -> list[DecoderStage]:
        """Return the schedule that runs. Raise ValueError if no schedule reaches the requested average."""
        if self.budget == "published":
            return self.schedule(depth, n)
        return self._schedule_at_average(depth, n)

    @property
    def restarts(self) -> bool:
        """True if the decoder, after its only stage, starts again from layer 0 on the kept tokens."""
        return False

    def raters(self, embeds: Tensor, visual: Tensor, valid: Tensor) -> Tensor | None:
        """Return the positions that rate the visual tokens, bool [B, L] over the prompt; None for the last one only.

        embeds: [B, L, D], the input of layer 0. Raters must be text: none of them in `visual`.
        """
        return None

    def score(self, signals: DecoderSignals) -> Tensor:
        """Return one real score per position, [B, L]; read at visual positions only, largest are kept; no nan there."""
        raise NotImplementedError

    def select(self, signals: DecoderSignals, stages: Sequence[DecoderStage]) -> DecoderSelection:
        """Choose the visual tokens with the largest `score`, as many as each sample's stage keeps."""
        kept = [stage.kept for stage in stages]
        score = check_scores(self, self.score(signals), "[B, L]", signals.visual.shape).to(signals.visual.device)
        keep, unsound = best_visual(score, signals.visual, kept), nan_scores(score, signals.visual)
        return DecoderSelection(keep, unsound=unsound, scores=score)

    def rater_count(self, words: int) -> int:
        """Return the number of last positions that rate, in a prompt with `words` text tokens."""
        return 1

    def rater_macs(self, length: int, width: int) -> int:
        """Return the multiply-accumulates of `raters` for a prompt of `length` tokens on a decoder of `width`."""
        return 0

    def stage_macs(self, stage: DecoderStage, length: int, raters: int, width: int, head_width: int) -> int:
        """Return the multiply-accumulates of `select` for one sample: `length` tokens, of which `raters` rate."""
        return 0

    def check(self, tower: Tower, depth: int) -> None:
        n = tower.grid[0] * tower.grid[1]
        stages = self.stages(depth, n)
        if self.ratio is None and self.keep is None and all(stage.left == n for stage in stages):
            raise NoAmount("no amount given, so nothing would be pruned: give ratio= or keep=")

    def keeps_all(self, n: int) -> bool:
        return self.ratio == 0  # `keep` is of a prompt's visual tokens, and a prompt may show several images

    def _schedule_at_average(self, depth: int, n: int) -> list[DecoderStage]:
        target = kept_count(n, self.ratio, self.keep)

        def keeping(k: int) -> list[DecoderStage]:
            return replace(self, ratio=None, keep=k, budget="published").schedule(depth, n)

        least = average_tokens(keeping(0), depth, n)
        if math.floor(least) > target:  # rounded, as the target is
            raise ValueError(
                f"budget=average: {target} of {n} visual tokens a layer cannot be reached, because the first "
                f"{keeping(0)[0].layer} of {depth} layers see them all; the least is {math.ceil(least)}"
            )
        fits = bisect_right(range(n + 1), float(target), key=lambda k: average_tokens(keeping(k), depth, n))
        k = max(0, fits - 1)
        stages, larger = keeping(k), keeping(min(k + 1, n))
        # One more token at the end may mean many more at earlier stages: as many first stages as fit take those counts.
        mixed = (larger[:first] + stages[first:] for first in reversed(range(len(stages))))
        return next((each for each in mixed if average_tokens(each, depth, n) <= target), stages)


def average_tokens(stages: Sequence[DecoderStage], depth: int, n: int) -> float:
    """Return the layer-averaged tokens: the mean over `depth` layers of the visual tokens of each, `n` at first."""
    starts = [0, *(stage.layer for stage in stages), depth]
    counts = [n, *(stage.left for stage in stages)]
    return sum(count * (end - start) for count, start, end in zip(counts, starts, starts[1:], strict=False)) / depth


def nan_scores(score: Tensor, rated: Tensor) -> Tensor:
    """Return bool [B]: samples with a nan among the scores [B, L] of the positions in `rated`, bool [B, L]."""
    return (score.isnan() & rated).any(dim=1)


def best_visual(score: Tensor, visual: Tensor, kept: Sequence[int]) -> Tensor:
    """Return bool [B, L]: the kept[b] visual positions of row b with the largest score [B, L]; ties go to the first."""
    ranked = score.masked_fill(~visual, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(score.shape[1], device=score.device).expand_as(ranked)
    rank = torch.empty_like(ranked).scatter_(1, ranked, places)
    return visual & (rank < torch.tensor(kept).to(score.device, non_blocking=True).unsqueeze(1))
