"""Time, FLOPs and memory of methods on a fixed synthetic load, without a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval


@dataclass(frozen=True)
class Load:
    """The fixed synthetic load, the same for every method; set by `vlmprune speed speed.NAME=VALUE`.

    Not in run.yaml, because a run's config.yaml must not contain it.
    """

    prompt_tokens: Annotated[
        int, Interval(ge=8, le=1_000_000), "text tokens of each prompt: all but its visual tokens"
    ] = 64
    new_tokens: Annotated[
        int, Interval(ge=1, le=1_000_000), "tokens that each prompt generates; end-of-sequence tokens are ignored"
    ] = 32
    image_size: Annotated[
        int, Interval(ge=28, le=16_384), "pixels along a side of the random square image; the processor resizes it"
    ] = 672
    repeats: Annotated[int, Interval(ge=1, le=100_000), "timed calls of each method"] = 7
    warm_up: Annotated[int, Interval(ge=1, le=100_000), "untimed calls of each method before them"] = 2
