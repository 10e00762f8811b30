"""Composition of two methods: one before the language model, then one inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from vlmprune.methods.base import Method, SequenceMethod, Tower, is_changed
from vlmprune.methods.budget import divide_in_proportion, round_half_up
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.fastv import FastV


@dataclass
class Compose(Method):
    """Runs any method before the language model, then any method inside it.

    With `ratio`, k of an image's N tokens are left at the end, and `split` divides the reduction: the first method
    keeps N (k/N)^split tokens, divided among tiles or frames where these are ranked separately, and the second one
    reduces those to k. 0.5 gives both the same factor, 1 leaves the whole reduction to the first, 0 to the second.
    With neither `ratio` nor `keep`, each runs with the ratio, keep or schedule that is set on it.

    With `keep`, k tokens of a prompt are left at the end, for any number of images. The first method keeps
    N (k/N)^split of each image's N tokens, since an encoding does not say which images share a prompt; the second one
    reduces those of all images to k. N counts one tile or frame where the first method acts inside the encoder, and on
    InternVL, whose encoder does not know which tiles are of one image. With `scm`, k and N count the tiles' tokens.

    before, inside: the two methods. scope: that of the first one. budget: that of the second one; with `average`, k is
    the mean over all decoder layers instead of the number at the end.
    """

    before: Method = field(default_factory=ClsAttention)
    inside: Method = field(default_factory=FastV)
    split: float = 0.5
    scope: Literal["published", "tile", "image"] = "published"
    budget: Literal["published", "average"] = "published"

    stage: ClassVar[Literal["composed"]] = "composed"
    published_positions: ClassVar[Any] = "each its own"

    def __post_init__(self) -> None:
        if self.before.stage not in ("sequence", "vision"):
            raise ValueError(f"before={type(self.before).__name__} does not act before the language model")
        if not isinstance(self.inside, DecoderMethod):
            raise ValueError(f"inside={type(self.inside).__name__} does not act inside the language model")
        if not 0 <= self.split <= 1:
            raise ValueError(f"split={self.split}: the first method's share of the reduction; allowed: 0 to 1")
        own = [part for part in (self.before, self.inside) if part.ratio is not None or part.keep is not None]
        if own and (self.ratio is not None or self.keep is not None):
            raise ValueError(
                f"ratio={self.ratio}, keep={self.keep} and an amount on {type(own[0]).__name__}: give one of them"
            )
        if self.ratio is None and self.keep is None and is_changed(self, "split"):
            raise ValueError(f"split={self.split}: it divides ratio= or keep=, and neither is given; leave it out")
        if self.scope != "published" and not isinstance(self.before, SequenceMethod):
            raise ValueError(f"scope={self.scope}: {type(self.before).__name__} acts on tiles; allowed: published")
        # A setting of the whole is one of its parts: one run, in either form.
        self.before = self._with(self.before, "positions", "scope")
        self.inside = self._with(self.inside, "positions", "budget")
        self.positions = self.scope = self.budget = "published"
        self.parts(1)  # raises if a part's settings conflict with an amount, which is so for any number of tokens

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Signals that the two methods read."""
        return self.before.needs + self.inside.needs

    @property
    def merges(self) -> bool:  # type: ignore[override]
        """True if one of the two methods merges."""
        return self.before.merges or self.inside.merges

    @property
    def reads_question(self) -> bool:
        return True  # the method inside the language model always does

    def parts(self, n: int) -> tuple[Method, ...]:
        before, inside = self.before, self.inside
        if self.ratio is None and self.keep is None:
            return before, inside
        first, k = self._kept_by_the_first(n), self.count(n)
        before = replace(before, keep=None, ratio=1 - first / n)
        if self.keep is not None:
            return before, replace(inside, keep=self.keep)
        return before, replace(inside, ratio=1 - k / first if first else 0)

    def shares(self, units: Sequence[int]) -> list[int]:
        if self.ratio is None and self.keep is None:
            return self.before.shares(units)
        return divide_in_proportion(self._kept_by_the_first(sum(units)), units)

    def _with(self, part: Method, *names: str) -> Method:
        """`part` with those of the named settings that are given for the whole. Raises ValueError for two values."""
        changed: dict[str, Any] = {}
        for name in names:
            value, own = getattr(self, name), getattr(part, name, "published")
            if value == "published":
                continue
            if own not in ("published", value):
                raise ValueError(f"{name}={value} and {name}={own} on {type(part).__name__}: give one of them")
            if value != getattr(part, f"published_{name}", None):  # else it is what the part does anyway
                changed[name] = value
        return replace(part, **changed) if changed else part

    def _kept_by_the_first(self, n: int) -> int:
        k = self.count(n)
        return max(k, round_half_up(n * (k / n) ** self.split)) if k else 0

    def check(self, tower: Tower, depth: int) -> None:
        for part in self.parts(tower.grid[0] * tower.grid[1]):
            part.check(tower, depth)

    def keeps_all(self, n: int) -> bool:
        return all(part.keeps_all(n) for part in self.parts(n))
