"""What a pruning method is: a small dataclass that declares what it reads and returns what to keep.

A method is pure tensor code. It never sees a model: the engine (vlmprune/pruning) computes the signals that it
declares in `needs`, hands them over, and carries out the selection. Base classes own ranking and counting, so that a
method that ranks tokens is its `score()`.

Shapes: B images (or samples, inside the decoder), N visual tokens of one image in raster order without [CLS], H heads,
L positions of a sequence, C vision width, D decoder width, k kept tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vlmprune.methods.counting import exact, kept_count
from vlmprune.methods.merging import Matching, counts_at_fraction, counts_to_reach

Positions = Literal["renumber", "keep"]

ABSENT: Any = None  # a signal that the method did not declare: reading it is a bug, so its type stays Tensor


@dataclass(frozen=True)
class Tower:
    """The vision encoder as a method may know it."""

    depth: int  # number of encoder layers
    feature_layer: int  # 0-based layer whose output goes to the projector (CLIP in LLaVA: 22 of 24)
    grid: tuple[int, int]  # (rows, columns) of the patches of one image or tile
    has_cls: bool


@dataclass
class Signals:
    """What a method before the language model may read, for B images of N patches each.

    Only what `Method.needs` names is filled, beside `grid` and `images`. Layer-bound signals carry a leading dimension
    over `Method.layers()`, in that order.
    """

    grid: tuple[int, int]
    images: int = 1  # B
    seeds: Sequence[int] = ()  # one per image, from its content: the same image gets the same seed in any batch
    cls_attention: Tensor = ABSENT  # [layers, B, H, N] post-softmax [CLS] rows, [CLS]->[CLS] dropped, not renormalised
    received_attention: Tensor = ABSENT  # [layers, B, H, N] mean over query rows of the attention a patch receives
    keys: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] with [CLS] first where the tower has one
    queries: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] unscaled
    features: Tensor = ABSENT  # [B, N, C] the projector's input
    cls_feature: Tensor = ABSENT  # [B, C] the [CLS] token at the feature layer
    projected: Tensor = ABSENT  # [B, N, D] the projector's output
    text_relevance: Tensor = ABSENT  # [B, N] cosine of image patches to the question in CLIP space


@dataclass
class Selection:
    """Which visual tokens go on, in output order.

    indices: int64 [B, k], the source slot that each output token takes.
    features: None to keep the tokens as they are, or [B, k, C] new embeddings (merging) before the projector,
        [B, k, D] after it where the method reads `projected`.
    valid: None where every image keeps k, or bool [B, k] where an adaptive method keeps fewer of some.
    """

    indices: Tensor
    features: Tensor | None = None
    valid: Tensor | None = None


def top_k(score: Tensor, k: int, *, keep_order: Literal["spatial", "score"] = "spatial") -> Tensor:
    """Indices int64 [..., k] of the k largest scores; of equal scores the lowest index wins, on every device.

    `spatial` sorts them ascending (raster order), `score` leaves the best first.
    """
    order = torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :k]
    return order.sort(dim=-1).values if keep_order == "spatial" else order


@dataclass
class Method:
    """Base of all methods.

    ratio: fraction of visual tokens removed, 0..1. keep: a number of tokens to keep instead. Neither: the method's
    published schedule where it has one, else everything is kept.
    """

    ratio: float | None = None
    keep: int | None = None

    stage: ClassVar[Literal["none", "vision", "sequence", "decoder"]]
    needs: ClassVar[tuple[str, ...]] = ()  # names of Signals fields
    positions: ClassVar[Positions] = "renumber"  # as published
    merges: ClassVar[bool] = False
    paper: ClassVar[str] = ""

    @property
    def reads_question(self) -> bool:
        """Whether the kept tokens depend on the question, not on the image alone."""
        return "text_relevance" in self.needs or self.stage == "decoder"

    def count(self, n: int) -> int:
        """Kept tokens of an image of `n`."""
        return kept_count(n, self.ratio, self.keep)

    def selection_macs(self, n: int, k: int, vision_width: int, decoder_width: int) -> int:
        """Multiply-accumulates of the method's own matrix products for one image, beside the signals it reads."""
        return 0

    def check(self, tower: Tower, depth: int) -> None:
        """Raise ValueError where the settings fit no model with this vision tower and `depth` decoder layers."""
        n = tower.grid[0] * tower.grid[1]
        if self.stage != "none" and self.ratio is None and self.keep is None and self.keeps_all(n):
            raise ValueError("no amount given, so nothing would be pruned: give ratio= or keep=")

    def keeps_all(self, n: int) -> bool:
        """True where nothing would be removed, so that the engine leaves the model alone (bit-identical)."""
        return self.count(n) >= n


@dataclass
class SequenceMethod(Method):
    """A method that selects once, between the vision encoder and decoder layer 0."""

    stage: ClassVar[Literal["sequence"]] = "sequence"

    def layers(self, tower: Tower) -> tuple[int, ...]:
        """Encoder layers (0-based) at which layer-bound signals are read; default: the feature layer."""
        return (tower.feature_layer,)

    def check(self, tower: Tower, depth: int) -> None:
        super().check(tower, depth)
        self.layers(tower)

    def select(self, signals: Signals, k: int) -> Selection:
        """Choose `k` of the N tokens of every image."""
        raise NotImplementedError


@dataclass
class ScoreMethod(SequenceMethod):
    """Keeps the k tokens with the largest `score`.

    keep_order: `spatial` (raster) or `score` (best first) order of the kept tokens in the sequence.
    """

    keep_order: Literal["spatial", "score"] = "spatial"

    def score(self, signals: Signals) -> Tensor:
        """One score per visual token, [B, N]; larger stays."""
        raise NotImplementedError

    def select(self, signals: Signals, k: int) -> Selection:
        return Selection(top_k(self.score(signals), k, keep_order=self.keep_order))


@dataclass(frozen=True)
class DecoderStage:
    """Visual tokens are dropped before decoder layer `layer` (0-based), down to `kept` of the N at the start."""

    layer: int
    kept: int


@dataclass
class DecoderSignals:
    """What a method inside the language model may read before layer K, for B samples of L positions.

    attention: [B, H, R, L] post-softmax rows; today R = 1, the last prompt token.
    hidden: [B, L, D] the input of layer K. visual, valid: bool [B, L]; valid is False on padding.
    """

    attention: Tensor
    hidden: Tensor
    visual: Tensor
    valid: Tensor


@dataclass
class DecoderMethod(Method):
    """A method that drops visual tokens before one or several decoder layers, by attention inside the decoder.

    reads: `previous` if the attention is that of layer K-1 (FastV), `own` if it is what layer K would compute on its
    own input (PyramidDrop).
    """

    stage: ClassVar[Literal["decoder"]] = "decoder"
    needs: ClassVar[tuple[str, ...]] = ("decoder_attention",)
    positions: ClassVar[Positions] = "keep"
    reads: ClassVar[Literal["previous", "own"]] = "previous"

    def stages(self, depth: int, n: int) -> list[DecoderStage]:
        """The schedule on a decoder of `depth` layers for a sample with `n` visual tokens."""
        raise NotImplementedError

    def score(self, signals: DecoderSignals) -> Tensor:
        """One score per position, [B, L]; read at visual positions only, larger stays."""
        raise NotImplementedError

    def check(self, tower: Tower, depth: int) -> None:
        n = tower.grid[0] * tower.grid[1]
        stages = self.stages(depth, n)
        if self.ratio is None and self.keep is None and all(stage.kept == n for stage in stages):
            raise ValueError("no amount given, so nothing would be pruned: give ratio= or keep=")

    def keeps_all(self, n: int) -> bool:
        return self.ratio == 0  # `keep` is of a prompt's visual tokens, which may be those of several images


@dataclass
class VisionMethod(Method):
    """A method that merges tokens after encoder layers, up to the one whose output goes to the projector.

    With `ratio` or `keep`, every layer keeps the same fraction of its tokens, solved so that the count at the end is
    exact; see `merging.counts_to_reach`. layer_ratio: that fraction itself, 0.5 to 1, as the papers state it; then the
    count is what comes of it (0.9 leaves 53 or 54 of 576 after the 23 layers that LLaVA reads).
    """

    layer_ratio: float | None = None

    stage: ClassVar[Literal["vision"]] = "vision"
    merges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.layer_ratio is None:
            return
        if not 0.5 <= self.layer_ratio <= 1:
            raise ValueError(f"layer_ratio={self.layer_ratio}: the fraction that a layer keeps; allowed: 0.5 to 1")
        if self.ratio is not None or self.keep is not None:
            raise ValueError(
                f"layer_ratio={self.layer_ratio} with ratio={self.ratio}, keep={self.keep}: give only one of them"
            )

    def check(self, tower: Tower, depth: int) -> None:
        if self.ratio is None and self.keep is None and self.layer_ratio is None:
            raise ValueError("no amount given, so nothing would be merged: give ratio=, keep= or method.layer_ratio=")
        self.merge_counts(tower, tower.grid[0] * tower.grid[1])

    def match(self, metric: Tensor, r: int, layer: int, tower: Tower) -> Matching:
        """Pair off `r` of the tokens that leave `layer`, compared by `metric` [B, T, C] ([CLS] first if there is one).

        Published for LLaVA with the layer's output as the metric.
        """
        raise NotImplementedError

    def matching_macs(self, length: int, r: int, layer: int, width: int, tower: Tower) -> int:
        """Multiply-accumulates of `match` on one image of `length` tokens."""
        return 0

    def counts_cls(self, layer: int, tower: Tower) -> bool:
        """Whether the fraction that `layer` keeps is of a sequence that includes [CLS]."""
        return tower.has_cls

    def layers(self, tower: Tower) -> range:
        """Encoder layers (0-based) whose output is merged: all that the projector depends on."""
        return range(tower.feature_layer + 1)

    def merge_counts(self, tower: Tower, n: int) -> tuple[int, ...]:
        """Tokens merged away after each of `layers`, of `n` patches. Raises ValueError, naming the limit.

        All 0 for the blind baseline, ratio 1: what is dropped in the end need not be merged first.
        """
        layers = self.layers(tower)
        protected = tuple(int(self.counts_cls(layer, tower)) for layer in layers)
        if self.layer_ratio is not None:
            return counts_at_fraction(n, exact(self.layer_ratio), protected)
        k = self.count(n)
        return counts_to_reach(n, k, protected) if k else (0,) * len(layers)

    def keeps_all(self, n: int) -> bool:
        return super().keeps_all(n) if self.layer_ratio is None else self.layer_ratio == 1
