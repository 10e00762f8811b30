"""The rule that turns a reduction ratio into a token count, and schedules of decoder layers.

FasterVLM's README prints 432/288/144/58/29 kept tokens for 576 at 25/50/75/90/95 %, which is N(1 - ratio) rounded half
up; `int()` and Python's `round()` both give other numbers for some of them, and floats make 25 * (1 - 0.9) = 2.4999...
So the product is computed in exact decimals, from the digits that the user typed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal


def to_decimal(number: float | str) -> Decimal:
    """Return the decimal that was typed: 0.9 is nine tenths, not the nearest binary fraction."""
    return Decimal(str(number))


def round_half_up(number: Decimal | float) -> int:
    """Return the nearest integer, halves upwards (2.5 -> 3), unlike Python's round (2.5 -> 2)."""
    return int(to_decimal(str(number)).to_integral_value(rounding=ROUND_HALF_UP))


def kept_count(n: int, ratio: float | None = None, keep: int | None = None) -> int:
    """Return the number of kept tokens of `n` visual tokens.

    With `ratio`: n(1 - ratio) rounded half up and at least 1; ratio 1 is the blind baseline and keeps 0.
    With `keep`: that many, capped at `n`. With neither, all of them.
    """
    if keep is not None:
        return min(keep, n)
    if ratio is None or n == 0:
        return n
    if to_decimal(ratio) == 1:
        return 0
    return max(1, round_half_up(n * (1 - to_decimal(ratio))))


def divide_in_proportion(total: int, units: Sequence[int]) -> list[int]:
    """Divide `total` among units in proportion to their tokens, by the largest remainder; ties go to the first unit.

    total: at most sum(units), so that no unit gets more than it has.
    """
    whole = sum(units)
    shares = [total * n // whole for n in units]
    by_remainder = sorted(range(len(units)), key=lambda unit: total * units[unit] % whole, reverse=True)
    for unit in by_remainder[: total - sum(shares)]:
        shares[unit] += 1
    return shares


def same_relative_depth(layer: int, published_depth: int, depth: int) -> int:
    """Return a published layer number for a model of another depth: 16 of 32 becomes 3 of 6, halves rounded up.

    At the published depth the number is unchanged; at another one the result is at most depth - 1.
    """
    if depth == published_depth:
        return layer
    return min(depth - 1, round_half_up(to_decimal(layer) * depth / published_depth))


def is_increasing(numbers: Sequence[int]) -> bool:
    """Return True if each number is larger than the one before."""
    return all(a < b for a, b in itertools.pairwise(numbers))


def relative_layers(layers: Sequence[int], published_depth: int, depth: int, *, shift: int = 0) -> list[int]:
    """Return the layers, of `depth`, before which a method drops tokens; its `layers` refer to `published_depth`.

    shift: 1 if it drops from a layer's output, which is before the next. Raises ValueError if two stages fall on one
    layer or the last has no layer left, naming the smallest depth that works.
    """

    def resolved(depth: int) -> list[int]:
        return [same_relative_depth(layer, published_depth, depth) + shift for layer in layers]

    def fits(depth: int) -> bool:
        return is_increasing([0, *resolved(depth), depth])

    if not fits(depth):
        smallest = next(filter(fits, range(depth + 1, published_depth + 1)))  # the last of these always works
        raise ValueError(
            f"layers {list(layers)} of {published_depth}: stages would start before layers {resolved(depth)} of a "
            f"decoder of {depth}; the smallest depth that works: {smallest}"
        )
    return resolved(depth)


def equal_factors(n: int, k: int, stages: int) -> list[int]:
    """Return the counts from n to k in equal factors: n (k/n)^(s/stages) for s = 1, 2, ..., rounded half up."""
    return [round_half_up(n ** (1 - s / stages) * k ** (s / stages)) for s in range(1, stages + 1)]
