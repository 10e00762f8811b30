"""What a pruning method is: a small dataclass that declares what it reads and returns what to keep.

A method is pure tensor code. It never sees a model: the engine (vlmprune/pruning) computes the signals that it
declares in `needs`, hands them over, and carries out the selection. Base classes own ranking and counting, so that a
method that ranks tokens is its `score()`.

Shapes: B images (or samples, inside the decoder), N visual tokens of one image in raster order without [CLS], H heads,
L positions of a sequence, C vision width, D decoder width, k kept tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vlmprune.methods.contract import as_scores
from vlmprune.methods.counting import kept_count
from vlmprune.methods.selection import Selection, top_k

Positions = Literal["renumber", "keep"]

LAYERED = frozenset({"cls_attention", "received_attention", "keys", "queries"})  # signals read at encoder layers

ABSENT: Any = None  # a signal that the method did not declare: reading it is a bug, so its type stays Tensor


@dataclass(frozen=True)
class Tower:
    """The vision encoder as a method may know it."""

    depth: int  # number of encoder layers
    feature_layer: int  # 0-based layer whose output goes to the projector (CLIP in LLaVA: 22 of 24)
    grid: tuple[int, int]  # (rows, columns) of the tokens of one image or tile: patches, or groups that are joined
    has_cls: bool
    grid_varies: bool = False  # images have grids of their own size; `grid` is that of a typical one


@dataclass(frozen=True)
class Widths:
    """Last dimensions of the signals: of one head's keys, of all heads' together, of `features` and of `projected`."""

    head: int
    keys: int
    features: int
    projected: int


@dataclass
class Signals:
    """What a method before the language model may read, for B images of N patches each.

    Only what `Method.needs` names is filled, beside `grid` and `images`; largest_relevance comes with text_relevance.
    Layer-bound signals carry a leading dimension over `Method.layers()`, in that order. An image of which one is not
    finite is refused.
    """

    grid: tuple[int, int]
    images: int = 1  # B
    tokens: int | None = None  # N; None outside the engine
    seeds: Sequence[int] = ()  # one per image, from its content: the same image gets the same seed in any batch
    cls_attention: Tensor = ABSENT  # [layers, B, H, N] post-softmax [CLS] rows, [CLS]->[CLS] dropped, not renormalised
    received_attention: Tensor = ABSENT  # [layers, B, H, N] mean over query rows of the attention a patch receives
    keys: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] with [CLS] first where the tower has one
    queries: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] unscaled
    features: Tensor = ABSENT  # [B, N, C] the projector's input
    cls_feature: Tensor = ABSENT  # [B, C] the [CLS] token at the feature layer
    projected: Tensor = ABSENT  # [B, N, D] the projector's output
    text_relevance: Tensor = ABSENT  # [B, N] cosine of image patches to the question in CLIP space
    largest_relevance: Tensor = ABSENT  # [B, N] the largest of the image that a patch is of, over all of its tiles


class NoAmount(ValueError):
    """Neither ratio= nor keep= is given to a method without a published schedule, on whatever model."""


def is_changed(method: Method, name: str) -> bool:
    """Whether a setting differs from its default. One that cannot act is refused: it would make a run of its own."""
    value, default = getattr(method, name), getattr(type(method), name)
    return list(value) != list(default) if isinstance(default, tuple) else value != default


@dataclass
class Method:
    """Base of all methods.

    A class outside vlmprune must be a @dataclass. What it declares and counts is checked before a model loads, what it
    returns at every call: another type, shape or range than is said here is refused in one line.

    ratio: fraction of visual tokens removed, 0..1. keep: a number of tokens to keep instead. Neither: the method's
    published schedule where it has one, else everything is kept.
    positions: `renumber` gives the tokens that stay contiguous position ids, `keep` leaves them theirs, with gaps;
    `published` is what the method's authors do.
    """

    ratio: float | None = None
    keep: int | None = None
    positions: Literal["published", "renumber", "keep"] = "published"

    stage: ClassVar[Literal["none", "vision", "sequence", "decoder", "composed"]]
    needs: ClassVar[tuple[str, ...]] = ()  # names of Signals fields; a tuple or list
    published_positions: ClassVar[Positions] = "renumber"
    merges: ClassVar[bool] = False
    paper: ClassVar[str] = ""

    @property
    def position_rule(self) -> Positions:
        """What happens to position ids: the published rule, or the one that was asked for."""
        return self.published_positions if self.positions == "published" else self.positions

    @property
    def reads_question(self) -> bool:
        """Whether the kept tokens depend on the question, not on the image alone."""
        return "text_relevance" in self.needs or self.stage == "decoder"

    def parts(self, n: int) -> tuple[Method, ...]:
        """The methods that this one consists of on images of `n` tokens, in the order in which they act."""
        return (self,)

    def count(self, n: int) -> int:
        """Kept tokens of an image of `n`: an int, 0 to n."""
        return kept_count(n, self.ratio, self.keep)

    def shares(self, units: Sequence[int]) -> list[int]:
        """How many tokens are kept of each of `units`, the token counts of what is ranked together in one image.

        One int for each of them, from 0 to what it has.
        """
        return [self.count(n) for n in units]

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        """Multiply-accumulates of the method's own matrix products for one image, beside the signals it reads."""
        return 0

    def check(self, tower: Tower, depth: int) -> None:
        """Raise ValueError where the settings fit no model with this vision tower and `depth` decoder layers."""
        n = tower.grid[0] * tower.grid[1]
        if self.stage != "none" and self.ratio is None and self.keep is None and self.keeps_all(n):
            raise NoAmount("no amount given, so nothing would be pruned: give ratio= or keep=")

    def keeps_all(self, n: int) -> bool:
        """True where nothing would be removed, so that the engine leaves the model alone (bit-identical)."""
        return self.count(n) >= n


@dataclass
class SequenceMethod(Method, ABC):
    """A method that selects once, between the vision encoder and decoder layer 0.

    scope: what is ranked together, and what `ratio` and `keep` are of, where an image is cut into tiles: each `tile` or
    frame, the whole `image`, or as `published`.
    """

    scope: Literal["published", "tile", "image"] = "published"

    stage: ClassVar[Literal["sequence"]] = "sequence"
    published_scope: ClassVar[Literal["tile", "image"]] = "tile"
    scopes: ClassVar[tuple[str, ...]] = ("tile", "image")

    @property
    def scope_rule(self) -> Literal["tile", "image"]:
        """What is ranked together: the published rule, or the one that was asked for."""
        return self.published_scope if self.scope == "published" else self.scope

    def layers(self, tower: Tower) -> tuple[int, ...]:
        """Encoder layers (0-based) at which layer-bound signals are read; default: the feature layer.

        Different ints, 0 to depth - 1; at least one.
        """
        return (tower.feature_layer,)

    def check(self, tower: Tower, depth: int) -> None:
        super().check(tower, depth)
        self.layers(tower)
        if self.scope_rule not in self.scopes:
            raise ValueError(f"scope={self.scope}: the method works on a tile's own grid; allowed: tile")

    def keeps_all(self, n: int) -> bool:
        if self.scope_rule == "image" and self.keep is not None:
            return False  # of all tiles or frames together, whose number differs
        return super().keeps_all(n)

    @abstractmethod
    def select(self, signals: Signals, k: int) -> Selection:
        """Choose `k` of the N tokens of every image; see `Selection`, whose fields are checked."""


@dataclass
class ScoreMethod(SequenceMethod):
    """Keeps the k tokens with the largest `score`.

    keep_order: `spatial` (raster) or `score` (best first) order of the kept tokens in the sequence.
    """

    keep_order: Literal["spatial", "score"] = "spatial"

    def __post_init__(self) -> None:
        if self.keep_order != "spatial" and self.positions == "keep":
            raise ValueError(
                f"keep_order={self.keep_order} with positions=keep: a token that keeps its position keeps its place; "
                "leave one of them out"
            )

    @abstractmethod
    def score(self, signals: Signals) -> Tensor:
        """One score per visual token, [B, N]; larger stays.

        Real numbers of any format. -inf is below every number, so that it stays last; a nan is refused.
        """

    def select(self, signals: Signals, k: int) -> Selection:
        score = self.score(signals)
        if signals.tokens is not None:
            score = as_scores(self, score, "[B, N]", (signals.images, signals.tokens))
        return Selection(top_k(score, k, keep_order=self.keep_order), unsound=score.isnan().any(dim=-1))
