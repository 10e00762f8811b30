"""Decoder layers and token counts of methods that drop visual tokens in several stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vlmprune.methods.counting import round_half_up, same_relative_depth


def increasing(numbers: Sequence[int]) -> bool:
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
        return increasing([0, *resolved(depth), depth])

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
