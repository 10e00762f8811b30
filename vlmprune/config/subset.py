"""Subset of a benchmark's samples: a random choice that is the same for every method, seed and machine."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

from vlmprune.errors import UserError


class GroupedSample(Protocol):
    """A sample by its id and the group that it is scored in, "" for none."""

    @property
    def id(self) -> str: ...

    @property
    def group(self) -> str: ...


Sample = TypeVar("Sample", bound=GroupedSample)


@dataclass(frozen=True)
class Subset:
    """Subset of samples. limit: their maximum, a number or a percentage; shard: part i of n of what `limit` leaves."""

    limit: int | str | None = None
    shard: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.limit, str):
            found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)%", self.limit)
            if not found or not 0 < float(found[1]) <= 100:
                raise UserError(f"limit={self.limit}: expected an integer of 1 or more, or a percentage such as 10%")
        elif self.limit is not None and self.limit < 1:
            raise UserError(f"limit={self.limit}: allowed: 1 or more")
        if self.shard is not None:
            found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard)
            if not found or not 1 <= int(found[1]) <= int(found[2]):
                raise UserError(f"shard={self.shard}: expected i/n with i from 1 to n, such as 1/4")

    @property
    def is_whole(self) -> bool:
        return self.limit is None and self.shard is None

    def size(self, total: int) -> int:
        """Return the number of samples that `limit` leaves of `total`, at least 1."""
        if isinstance(self.limit, str):
            return max(1, round(total * float(self.limit.rstrip("%")) / 100))
        return total if self.limit is None else min(self.limit, total)

    def choose(self, samples: list[Sample]) -> list[Sample]:
        """Return the chosen samples, in the order given. Raises UserError if the shard is empty.

        The samples are shuffled in an order that depends only on their groups. The first `size` are the limit's, so
        that a smaller limit asks some of the questions of a larger one, and every n-th of those is a shard's. Samples
        of one `group` are taken together, so that there may be a few more or less than `size`.
        """
        groups: dict[tuple[str, str], list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault(("group", sample.group) if sample.group else ("sample", sample.id), []).append(index)
        order = list(groups.values())
        random.Random(0).shuffle(order)
        chosen = order[: nearest_total([len(group) for group in order], self.size(len(samples)))]
        if self.shard is not None:
            part, parts = map(int, self.shard.split("/"))
            there = sum(map(len, chosen))
            chosen = chosen[part - 1 :: parts]
            if not chosen:
                raise UserError(f"shard={self.shard}: empty, as there are only {there} samples")
        return [samples[index] for index in sorted(index for group in chosen for index in group)]

    def name(self, total: int) -> str:
        """Return the subset's name in the result and in the fingerprint: "all", or "limit=N shard=i/n".

        A percentage is named by the number of samples that it is, so that both ways to ask are one run.
        """
        size = self.size(total)
        part, of = map(int, (self.shard or "1/1").split("/"))
        parts = [f"limit={size}" if size < total else "", f"shard={part}/{of}" if of > 1 else ""]
        return " ".join(part for part in parts if part) or "all"


def nearest_total(sizes: list[int], wanted: int) -> int:
    """Return how many of the first `sizes`, at least one, come nearest to `wanted` in sum; the fewer of equal ones."""
    totals = list(accumulate(sizes))
    return 1 + min(range(len(totals)), key=lambda index: abs(totals[index] - wanted))
