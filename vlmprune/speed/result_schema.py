"""The documented schema of the JSON of `vlmprune speed`; from=FILE is checked against it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from vlmprune.results.schema import Conditions, Times
from vlmprune.results.timing import spread_of
from vlmprune.typed_json import STRICT, Amount, Count, Fraction, Positive

MEASURED, OUT_OF_MEMORY, NOT_APPLICABLE = "measured", "out of memory", "not applicable"


@with_config(STRICT)
class Tokens(TypedDict):
    """Tokens of one prompt."""

    text: Count
    visual: Annotated[Count, Field(ge=1, description="unpruned")]
    kept: Annotated[Count, Field(description="at the last decoder layer")]
    layer_averaged: Amount
    sequence: Count


def _no_more_than_all(tokens: Tokens) -> Tokens:
    if max(tokens["kept"], tokens["layer_averaged"]) > tokens["visual"]:
        raise ValueError(f"kept={tokens['kept']} or layer_averaged is more than visual={tokens['visual']}")
    return tokens


@with_config(STRICT)
class Flops(TypedDict):
    """FLOPs of one question, FLOP = 2 MAC."""

    vision: Amount
    projector: Amount
    selection: Amount
    prefill: Amount
    decode: Amount
    total: Amount
    first_token: Annotated[Positive, Field(description="all but decode")]


@with_config(STRICT)
class PositiveTimes(Times):
    """Times of a part whose median is above 0."""

    median_ms: Positive


@with_config(STRICT)
class Parts(TypedDict):
    """Times of the whole batch by part. If compiled, signals read inside the encoder count as vision."""

    vision: Times | None
    selection: Times | None
    projector: Times | None
    prefill: Annotated[PositiveTimes, Field(description="with all selection")]
    first_token: Annotated[PositiveTimes, Field(description="all up to its logits")]
    decode_per_token: Annotated[Times | None, Field(description="one step; null where nothing was decoded")]
    other: Times | None
    end_to_end: PositiveTimes


@with_config(STRICT)
class SpeedUp(TypedDict):
    """Median ms unpruned / median ms here."""

    prefill: Positive
    first_token: Positive
    decode_per_token: NotRequired[Positive]
    end_to_end: Positive


@with_config(STRICT)
class Row(TypedDict):
    """A case at a batch size, compared with the unpruned case of the same batch size."""

    state: Literal["measured", "out of memory", "not applicable"]
    label: Annotated[str, Field(description="method, with its settings")]
    ratio: Annotated[Fraction | None, Field(description="as requested")]
    keep: Annotated[Count | None, Field(description="as requested")]
    batch_size: Annotated[Annotated[Count, Field(ge=1)] | None, Field(description="null where nothing was run")]
    reason: Annotated[NotRequired[str], Field(description="why it is not applicable")]
    tokens: NotRequired[Annotated[Tokens, AfterValidator(_no_more_than_all)]]
    flops: Annotated[
        NotRequired[Flops | None], Field(description="null where they cannot be counted, and flops_unknown says why")
    ]
    flops_unknown: NotRequired[str]
    ms: NotRequired[Parts]
    peak_memory_mb: Annotated[
        NotRequired[Amount],
        Field(
            description="most of all timed calls: torch's allocator on a GPU, the resident set on a CPU; with the "
            "caches that compiled cases keep"
        ),
    ]
    peak_memory_since: Annotated[NotRequired[str], Field(description="its reset before each call, or process start")]
    kv_cache_bytes: Annotated[
        NotRequired[Count],
        Field(description="of the whole batch's prompts after prefill, without what a static cache has beyond them"),
    ]
    flops_per_s: Annotated[NotRequired[Amount], Field(description="FLOPs to the first token / its time")]
    of_flops_ceiling: Annotated[NotRequired[Amount], Field(description="and as a share of the matrix product's")]
    bytes_per_step: Annotated[
        NotRequired[Amount],
        Field(description="what a decode step must read at least: weights of decoder and head, and the mean KV cache"),
    ]
    bytes_per_s: Annotated[NotRequired[Amount], Field(description="bytes_per_step / decode_per_token")]
    of_bandwidth_ceiling: Annotated[NotRequired[Amount], Field(description="and as a share of the copy's")]
    speed_up: NotRequired[SpeedUp]
    flops_ratio: Annotated[
        NotRequired[Positive],
        Field(description="FLOPs to the first token, unpruned / here: the theoretical speed-up"),
    ]
    realised: Annotated[NotRequired[Positive], Field(description="speed_up of first_token / flops_ratio")]
    timing_doubt: Annotated[
        NotRequired[str],
        Field(description="why speed_up and realised are not to be trusted; absent if nothing speaks against them"),
    ]


def add_timing_doubts(rows: list[dict[str, Any]]) -> None:
    """Add `timing_doubt` to measured rows whose time to the first token, or their unpruned row's, was disturbed.

    Compiled rows are held against the compiled unpruned one, since compilation makes them faster as well.
    """
    measured = [row for row in rows if row["state"] == MEASURED]
    unpruned = {_kind(row): row for row in measured if row["label"] in ("unpruned", "unpruned compiled")}
    for row in measured:
        bare = unpruned.get(_kind(row), row)
        sides = [("", row)] if bare is row else [("", row), ("unpruned ", bare)]
        reasons = [
            f"p90 of the {name}first token is {spread:.1f}x the median"
            for name, side in sides
            if (spread := part_spread(side, "first_token")) is not None
        ]
        ours, theirs = (each["ms"]["first_token"]["median_ms"] for each in (row, bare))
        if bare is not row and (share := theirs / ours / row.get("flops_ratio", float("inf"))) > 1:
            reasons.append(f"its speed-up would be {share:.0%} of the theoretical one")
        if reasons:
            row["timing_doubt"] = "; ".join(reasons)


def _kind(row: dict[str, Any]) -> tuple[int, bool]:
    return row["batch_size"], row["label"].endswith(" compiled")


def part_spread(row: dict[str, Any], part: str) -> float | None:
    """Return p90 / median of a part of a measured row if it is too large to trust the times; else None."""
    times = row["ms"][part] or {}
    return spread_of(times.get("median_ms"), times.get("p90_ms"))


# Fields that a row must have too, by its state or by another field of the row.
REQUIRED_FIELDS: dict[str, tuple[str, ...]] = {
    MEASURED: ("batch_size", "tokens", "flops", "ms", "peak_memory_mb", "kv_cache_bytes"),
    OUT_OF_MEMORY: ("batch_size",),
    NOT_APPLICABLE: ("reason",),
    "flops_ratio": ("speed_up", "realised"),
}


def _complete(row: Row) -> Row:
    needed = [*REQUIRED_FIELDS[row["state"]], *(REQUIRED_FIELDS["flops_ratio"] if "flops_ratio" in row else ())]
    for name in needed:
        if name not in row or (name == "batch_size" and row["batch_size"] is None):
            raise ValueError(f"{name} is missing in a row with state={row['state']}")
    return row


@with_config(STRICT)
class Model(TypedDict):
    """The measured model."""

    name: str
    checkpoint: Annotated[NotRequired[str], Field(description="its identity")]
    random_weights: bool
    limits: Annotated[NotRequired[dict[str, Count]], Field(description="of the pixels or tiles of a picture")]


@with_config(STRICT)
class Load(TypedDict):
    """The synthetic load: the speed.* settings."""

    prompt_tokens: Count
    new_tokens: Count
    image_size: NotRequired[Count]
    repeats: NotRequired[Count]
    warm_up: NotRequired[Count]


@with_config(STRICT)
class Ceiling(TypedDict):
    """Highest rates of the device, measured."""

    flops: Annotated[Positive, Field(description="FLOP/s of a matrix product of `side`")]
    bandwidth: Annotated[Positive, Field(description="bytes/s of a copy, read and written")]
    side: NotRequired[Count]
    copied_bytes: NotRequired[Count]


@with_config(STRICT)
class SpeedResult(TypedDict):
    """The whole JSON file."""

    schema: Literal[1]
    model: Model
    load: Load
    ceiling: Ceiling
    versions: Annotated[NotRequired[dict[str, str]], Field(description="of the libraries")]
    git: Annotated[NotRequired[str | None], Field(description="commit of vlmprune")]
    conditions: Annotated[Conditions, Field(description="right after the last timed call")]
    rows: Annotated[list[Annotated[Row, AfterValidator(_complete)]], Field(min_length=1)]
    finished: Annotated[NotRequired[str], Field(description="UTC date and time")]
    command: Annotated[NotRequired[str], Field(description="as typed")]
