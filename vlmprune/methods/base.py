"""Base classes of pruning methods: dataclasses that declare what they read and return the tokens to keep.

A method is pure tensor code without access to a model: the engine (vlmprune/engine) computes the signals that the
method declares in `needs`, passes them in, and applies the selection. Base classes rank and count, so that a method
that ranks tokens only implements `score()`.

Shapes: B images (or samples, inside the decoder), N visual tokens of one image in raster order without [CLS], H heads,
L positions of a sequence, C vision width, D decoder width, k kept tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vlmprune.methods.budget import kept_count
from vlmprune.methods.contract import check_scores


@dataclass
class Selection:
    """Kept visual tokens of every image, in output order.

    indices: int64 [B, k], the source slot that each output token takes: 0 to N - 1, none twice in an image. k is the
        requested number, or the largest of the batch where the method is adaptive and gives `valid`.
    features: None to keep the tokens as they are, or [B, k, C] new embeddings (merging) before the projector,
        [B, k, D] after it where the method reads `projected`; finite floats.
    valid: None if every image keeps k, or bool [B, k] if an adaptive method keeps fewer of some images: their first.
    blocks: None, or the block number of each of the k tokens, for their order where several tiles make up one image
        (LLaVA-NeXT, renumbered): after the first tile's own tokens, block 0 of all others, which are patches in the
        image's raster order, then block 1 tile by tile, and so on. Not together with `valid`.
    unsound: None, or bool [B], True where a score was nan, so that the choice means nothing and the prompt is refused.
    scores: None, or [B, N], the score of each token, for pictures.
    """

    indices: Tensor
    features: Tensor | None = None
    valid: Tensor | None = None
    blocks: tuple[int, ...] | None = None
    unsound: Tensor | None = None
    scores: Tensor | None = None


def top_k(score: Tensor, k: int, *, keep_order: Literal["spatial", "score"] = "spatial") -> Tensor:
    """Return the indices, int64 [..., k], of the k largest scores; of equal ones the lowest index, on every device.

    Equal means to the last bit. Sums of equal columns over heads, rows or layers are equal if `pairwise_sum` adds them;
    attention and cosines of equal tokens are equal in the cases that `tensor_ops.products` names.
    `spatial` sorts them ascending (raster order), `score` leaves the best first.
    """
    order = torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :k]
    return order.sort(dim=-1).values if keep_order == "spatial" else order


Positions = Literal["renumber", "keep"]

LAYERED = frozenset({"cls_attention", "received_attention", "keys", "queries"})  # signals read at encoder layers

ABSENT: Any = None  # default of a signal that the method did not declare; Any, so that the field's type stays Tensor


@dataclass(frozen=True)
class Tower:
    """Sizes of the vision encoder that a method may read."""

    depth: int  # number of encoder layers
    feature_layer: int  # 0-based layer whose output goes to the projector (CLIP in LLaVA: 22 of 24)
    grid: tuple[int, int]  # (rows, columns) of the tokens of one image or tile: patches, or joined groups of patches
    has_cls: bool
    grid_varies: bool = False  # True where the grid depends on the image; `grid` is then a typical one


@dataclass(frozen=True)
class Widths:
    """Last dimensions of the signals: keys of one head, keys of all heads together, `features` and `projected`."""

    head: int
    keys: int
    features: int
    projected: int


@dataclass
class Signals:
    """Signals that a method before the language model may read, for B images of N patches each.

    Beside `grid`, `images` and `tokens`, only the signals in `Method.needs` are filled; largest_relevance comes with
    text_relevance. Layer-bound signals have a leading dimension over `SequenceMethod.layers()`, in that order. An image
    with a signal that is not finite is refused.
    """

    grid: tuple[int, int]
    images: int = 1  # B
    tokens: int | None = None  # N; None outside the engine
    seeds: Sequence[int] = ()  # one per image, from its content: the same image gets the same seed in any batch
    cls_attention: Tensor = ABSENT  # [layers, B, H, N] post-softmax [CLS] rows, [CLS]->[CLS] dropped, not renormalised
    received_attention: Tensor = ABSENT  # [layers, B, H, N] mean over query rows of the attention a patch receives
    keys: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] with [CLS] first where the encoder has one
    queries: Tensor = ABSENT  # [layers, B, H, 1+N, C/H] unscaled
    features: Tensor = ABSENT  # [B, N, C] the projector's input
    cls_feature: Tensor = ABSENT  # [B, C] the [CLS] token at the feature layer
    projected: Tensor = ABSENT  # [B, N, D] the projector's output
    text_relevance: Tensor = ABSENT  # [B, N] cosine of image patches to the question in CLIP space
    largest_relevance: Tensor = ABSENT  # [B, N] the largest text_relevance of the patch's image, over all of its tiles


class NoAmount(ValueError):
    """Neither ratio= nor keep= is given to a method without a published schedule, on whatever model."""


def is_changed(method: Method, name: str) -> bool:
    """Return True if a setting differs from its default; methods refuse that where the setting has no effect."""
    value, default = getattr(method, name), getattr(type(method), name)
    return list(value) != list(default) if isinstance(default, tuple) else value != default


@dataclass
class Method:
    """Base class of all methods.

    A subclass outside vlmprune must be a @dataclass. Its declarations and counts are checked before a model loads, its
    return values at every call: another type, shape or range than documented here is refused in one line.

    ratio: fraction of visual tokens removed, 0..1. keep: a number of tokens to keep instead. Neither: the method's
    published schedule if it has one, else everything is kept.
    positions: `renumber` gives the kept tokens contiguous position ids, `keep` leaves them their original ids, with
    gaps; `published` does what the method's authors do.
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
        """Rule for position ids: the published one, unless `positions` names another."""
        return self.published_positions if self.positions == "published" else self.positions

    @property
    def reads_question(self) -> bool:
        """True if the kept tokens depend on the question, not on the image alone."""
        return "text_relevance" in self.needs or self.stage == "decoder"

    def parts(self, n: int) -> tuple[Method, ...]:
        """Return the methods that this one consists of on images of `n` tokens, in the order in which they act."""
        return (self,)

    def count(self, n: int) -> int:
        """Return the number of tokens kept of an image of `n`: an int, 0 to n."""
        return kept_count(n, self.ratio, self.keep)

    def shares(self, units: Sequence[int]) -> list[int]:
        """Return how many tokens are kept of each unit, a set of tokens of one image that are ranked together.

        units: the number of tokens of each. One int for each of them, from 0 to that number.
        """
        return [self.count(n) for n in units]

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        """Return the multiply-accumulates of the method's own products for one image, without those of its signals."""
        return 0

    def check(self, tower: Tower, depth: int) -> None:
        """Raise ValueError if the settings do not fit a model with this vision encoder and `depth` decoder layers."""
        n = tower.grid[0] * tower.grid[1]
        if self.stage != "none" and self.ratio is None and self.keep is None and self.keeps_all(n):
            raise NoAmount("no amount given, so nothing would be pruned: give ratio= or keep=")

    def keeps_all(self, n: int) -> bool:
        """Return True if nothing would be removed; the engine then runs the unchanged model (bit-identical)."""
        return self.count(n) >= n


@dataclass
class SequenceMethod(Method, ABC):
    """Base class of methods that select once, between the vision encoder and decoder layer 0.

    scope: the unit that is ranked together, and to which `ratio` and `keep` apply, where an image is cut into tiles:
    each `tile` or frame, the whole `image`, or the `published` one.
    """

    scope: Literal["published", "tile", "image"] = "published"

    stage: ClassVar[Literal["sequence"]] = "sequence"
    published_scope: ClassVar[Literal["tile", "image"]] = "tile"
    scopes: ClassVar[tuple[str, ...]] = ("tile", "image")

    @property
    def scope_rule(self) -> Literal["tile", "image"]:
        """Unit that is ranked together: the published one, unless `scope` names another."""
        return self.published_scope if self.scope == "published" else self.scope

    def layers(self, tower: Tower) -> tuple[int, ...]:
        """Return the encoder layers (0-based) at which layer-bound signals are read; default: the feature layer.

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
            return False  # `keep` is of all tiles or frames together, whose number is not known here
        return super().keeps_all(n)

    @abstractmethod
    def select(self, signals: Signals, k: int) -> Selection:
        """Choose `k` of the N tokens of every image. The fields of the returned `Selection` are checked."""


@dataclass
class ScoreMethod(SequenceMethod):
    """Base class of methods that keep the k tokens with the largest `score`.

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
        """Return one score per visual token, [B, N]; the largest are kept.

        Real numbers of any format. -inf ranks last; a nan is refused.
        """

    def select(self, signals: Signals, k: int) -> Selection:
        score = self.score(signals)
        if signals.tokens is not None:
            score = check_scores(self, score, "[B, N]", (signals.images, signals.tokens))
        kept = top_k(score, k, keep_order=self.keep_order)
        return Selection(kept, unsound=score.isnan().any(dim=-1), scores=score)


LARGEST = 1_000_000  # visual tokens; more than any image has


def acting_parts(method: Method, tower: Tower) -> tuple[Method, ...]:
    """Return the parts of `method` that the engine runs on this vision encoder; none if every token is kept.

    If images differ in size, or several tiles share one number of tokens, a part is left out only if it keeps all of
    LARGEST tokens.
    """
    n = tower.grid[0] * tower.grid[1]
    parts = method.parts(n)
    shared = method.stage == "composed" and method.keep is not None and parts[0].stage == "sequence"
    if tower.grid_varies or shared:
        n, parts = LARGEST, method.parts(LARGEST)
    return tuple(part for part in parts if part.stage != "none" and not part.keeps_all(n))
