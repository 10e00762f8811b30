"""Two methods in a row: one before the language model, one inside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from vlmprune.methods.base import Method, SequenceMethod, Tower
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.counting import round_half_up
from vlmprune.methods.decoder_base import DecoderMethod
from vlmprune.methods.fastv import FastV


@dataclass
class Compose(Method):
    """Any method before the language model, followed by any inside it.

    With `ratio` or `keep`, k of N tokens are left in the end, and `split` says how much of the way there the first
    method goes: it keeps N (k/N)^split, the second one k of those. 0.5 gives both the same factor, 1 leaves everything
    to the first, 0 to the second. With neither, each runs with the ratio, keep or schedule that is set on it.

    before, inside: the two methods. scope: that of the first one. budget: that of the second one; `average` makes the
    mean over all decoder layers, instead of the end, k.
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
        if self.scope != "published" and not isinstance(self.before, SequenceMethod):
            raise ValueError(f"scope={self.scope}: {type(self.before).__name__} acts on tiles; allowed: published")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What either of the two reads."""
        return self.before.needs + self.inside.needs

    @property
    def merges(self) -> bool:  # type: ignore[override]
        """Whether either of the two merges."""
        return self.before.merges or self.inside.merges

    @property
    def reads_question(self) -> bool:
        return True  # the second one always does

    def parts(self, n: int) -> tuple[Method, ...]:
        common: dict[str, Any] = {} if self.positions == "published" else {"positions": self.positions}
        before, inside = replace(self.before, **common), replace(self.inside, **common)
        if self.scope != "published":
            before = replace(before, scope=self.scope)  # type: ignore[call-arg]
        if self.budget == "average":
            inside = replace(inside, budget="average")  # type: ignore[call-arg]
        if self.ratio is None and self.keep is None:
            return before, inside
        k = self.count(n)
        first = max(k, round_half_up(n * (k / n) ** self.split)) if k else 0
        return (
            replace(before, keep=None, ratio=1 - first / n),
            replace(inside, keep=None, ratio=1 - k / first if first else 0),
        )

    def check(self, tower: Tower, depth: int) -> None:
        if tower.grid_varies and self.keep is not None:
            raise ValueError(f"keep={self.keep} is split by an image's own token count, which varies here: give ratio=")
        for part in self.parts(tower.grid[0] * tower.grid[1]):
            part.check(tower, depth)

    def keeps_all(self, n: int) -> bool:
        return all(part.keeps_all(n) for part in self.parts(n))
