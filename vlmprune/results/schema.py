"""Schema of result.json, field by field, by which the result of a finished run is documented and checked when read.

Results of older versions, which lack some fields, are read too. Fields are in the order in which they are written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT, Amount, Count, Fraction, Number, Positive

SAME = 1 + 1e-9  # sums of the same numbers in another order


def _ordered(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds}: the lower end is above the upper one")
    return bounds


Interval = Annotated[list[Amount], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


@with_config(STRICT)
class Subset(TypedDict):
    """Settings that choose a subset of the benchmark's samples."""

    limit: NotRequired[Annotated[int, Field(ge=1)] | str | None]
    shard: NotRequired[str | None]
    seed: NotRequired[int]


@with_config(STRICT)
class Kept(TypedDict):
    """Visual tokens of a question in the last decoder layer."""

    mean: Amount
    min: Count
    max: Count


@with_config(STRICT)
class Tokens(TypedDict):
    """Token counts of a question, means over questions."""

    total: Annotated[Amount, Field(description="visual, before pruning; 0 where no question has a picture")]
    kept: Annotated[Kept, Field(description="visual, at the last decoder layer: mean, min, max")]
    layer_averaged: Annotated[Amount, Field(description="visual, mean over the decoder's layers")]
    sequence: Annotated[NotRequired[Amount], Field(description="with text, at decoder layer 0")]


def _no_more_than_all(tokens: Tokens) -> Tokens:
    """Raise ValueError if more tokens are kept than there were."""
    for name, value in (("kept.mean", tokens["kept"]["mean"]), ("layer_averaged", tokens["layer_averaged"])):
        if value > tokens["total"] * SAME:
            raise ValueError(f"{name}={value:g} is more than total={tokens['total']:g}")
    return tokens


@with_config(STRICT)
class Positions(TypedDict):
    """Positions of the decoder, and those that questions take."""

    limit: Annotated[Count, Field(description="how many it has with its rotary embedding's scaling")]
    longest: Annotated[
        Count,
        Field(
            description="how many a prompt takes with its answer, at most (the largest position + 1 at decoder layer "
            "0, and the new tokens)"
        ),
    ]
    beyond: Annotated[Count, Field(description="how many questions take more than the limit")]


@with_config(STRICT)
class Flops(TypedDict):
    """FLOPs of a question, FLOP = 2 MAC, means over questions."""

    convention: Annotated[NotRequired[str], Field(description="the formula; older results lack it")]
    vision: NotRequired[Amount]
    projector: NotRequired[Amount]
    selection: NotRequired[Amount]
    prefill: NotRequired[Amount]
    decode: NotRequired[Amount]
    total: Amount
    unpruned_total: Positive


@with_config(STRICT)
class Category(TypedDict):
    """Score of one category of questions."""

    score: Amount | None
    samples: Count


@with_config(STRICT)
class Answers(TypedDict):
    """Scores, tokens and FLOPs of all answers."""

    metric: Annotated[str, Field(description="name of the main metric")]
    score: Annotated[
        Amount | None,
        Field(
            description="the main metric, a fraction of 1 where it has a maximum; null while the answers are not "
            "judged or have no public reference"
        ),
    ]
    interval95: Annotated[
        Interval | None,
        Field(
            description="of the score: bootstrap clustered by image, or where no question or every one is right the "
            "exact binomial interval of so many images; null without a score or where it means nothing"
        ),
    ]
    metrics: Annotated[
        NotRequired[dict[str, Number]],
        Field(description="every metric of the set by name, in the scale of its authors; {} where score is null"),
    ]
    samples: Annotated[Count, Field(ge=1, description="that were answered")]
    images: Annotated[Count, Field(description="that they were about")]
    by_category: Annotated[NotRequired[dict[str, Category]], Field(description="category -> score, samples")]
    tokens: Annotated[Tokens, AfterValidator(_no_more_than_all)]
    positions: Annotated[
        NotRequired[Positions | None],
        Field(description="of the decoder; null where its config names none; older results lack it"),
    ]
    flops: Annotated[
        Flops | None, Field(description="per question; null where they cannot be counted, flops_unknown says why")
    ]
    flops_unknown: Annotated[NotRequired[str], Field(description="why flops is null; absent where it is not")]


@with_config(STRICT)
class BadSamples(TypedDict):
    """Samples left out because they cannot be used (on_bad_sample=skip)."""

    count: Count
    ids: Annotated[list[str], Field(description="the first 20")]


@with_config(STRICT)
class Times(TypedDict):
    """Times of one part of generate(), over several calls. Percentiles are of the nearest rank."""

    median_ms: Amount
    p25_ms: Annotated[NotRequired[Amount], Field(description="older results lack it and p75_ms")]
    p75_ms: NotRequired[Amount]
    p90_ms: NotRequired[Amount]
    n: NotRequired[Count]


class Parts(TypedDict):
    """Times of the parts of generate(); null for a part that did not run, such as decoding after one new token."""

    vision: NotRequired[Times | None]
    selection: NotRequired[Times | None]
    projector: NotRequired[Times | None]
    prefill: Annotated[Times, Field(description="with all selection")]
    first_token: Annotated[NotRequired[Times | None], Field(description="all up to its logits")]
    decode_per_token: NotRequired[Times | None]
    other: NotRequired[Times | None]
    end_to_end: Times


@with_config(STRICT)
class Lengths(TypedDict):
    """Mean numbers of tokens of the timed prompts."""

    text: Amount
    visual_before: Annotated[Amount, Field(description="pruning")]
    visual_after: Annotated[Amount, Field(description="pruning, mean over layers")]


@with_config(STRICT)
class Conditions(TypedDict):
    """Conditions under which the times were measured."""

    device: str
    device_name: str
    dtype: str
    attention: str
    threads: Count
    openmp: Annotated[
        NotRequired[dict[str, str]],
        Field(description="OpenMP's variables in the environment; older results lack it"),
    ]
    clocks_mhz: Annotated[NotRequired[dict[str, Count] | None], Field(description="null on a CPU")]


@with_config(STRICT)
class Latency(TypedDict):
    """Latency of pruned and unpruned calls in turn, at batch size 1."""

    unpruned: Parts
    pruned: Parts
    samples: Annotated[NotRequired[Count], Field(description="questions that were timed")]
    batch_size: NotRequired[Count]
    tokens: NotRequired[Lengths]
    conditions: NotRequired[Conditions]
    measured: Annotated[NotRequired[str], Field(description="UTC date and time; older results lack it and versions")]
    versions: Annotated[NotRequired[dict[str, str]], Field(description="of libraries")]


@with_config(STRICT)
class BatchSizes(TypedDict):
    """Batch size in the settings, and the one used, which is smaller after out-of-memory."""

    asked: Count
    used: Count


@with_config(STRICT)
class Evaluation(TypedDict):
    """Seconds and counts of the first process's share of the questions."""

    media_s: Annotated[NotRequired[Amount], Field(description="seconds spent waiting for media")]
    shared_s: Annotated[NotRequired[Amount], Field(description="on beginnings of prompts that several questions share")]
    questions_s: Annotated[NotRequired[Amount], Field(description="and on questions")]
    beginnings: Annotated[NotRequired[Count], Field(description="how many beginnings were shared")]
    whole_prompts: Annotated[NotRequired[Count], Field(description="questions asked without a shared beginning")]
    batch_size: BatchSizes


@with_config(STRICT)
class CacheBytes(TypedDict):
    """Bytes of the KV cache of one question's prompt."""

    unpruned: Count
    pruned: Count


@with_config(STRICT)
class Timings(TypedDict):
    """Times and memory of the run."""

    latency: Annotated[Latency | None, Field(description="the latest; null without latency_samples")]
    evaluation_s: Annotated[
        NotRequired[Amount],
        Field(description="the batched evaluation, by all processes, of the samples that were open"),
    ]
    evaluation: Annotated[NotRequired[Evaluation], Field(description="where its time went; older results lack it")]
    samples_per_s: Annotated[NotRequired[Amount | None], Field(description="the same; null where none was open")]
    peak_memory_mb: Annotated[
        NotRequired[Amount | None],
        Field(
            description="of loading and evaluation, the most of any device: torch's allocator on a GPU, the process's "
            "resident set on a CPU; in a sweep that includes the model and the encodings that earlier jobs left in "
            "memory"
        ),
    ]
    peak_memory_since: Annotated[
        NotRequired[str],
        Field(description="its reset, or process start where the system does not let it be reset"),
    ]
    kv_cache_bytes: NotRequired[CacheBytes | None]
    earlier_latency: Annotated[
        NotRequired[list[Latency]],
        Field(description="that `vlmprune time` replaced, oldest first; absent where it replaced none"),
    ]


@with_config(STRICT)
class Environment(TypedDict):
    """Device, versions and data of the run."""

    device: NotRequired[str]
    device_name: NotRequired[str]
    threads: NotRequired[Count]
    openmp: Annotated[
        NotRequired[dict[str, str]],
        Field(description="its variables in the environment, by default GOMP_SPINCOUNT=1000; older results lack it"),
    ]
    cpus: NotRequired[Count | None]
    dtype: NotRequired[str]
    checkpoint: Annotated[NotRequired[str], Field(description="its identity")]
    data: Annotated[NotRequired[str], Field(description="their identity")]
    python: NotRequired[str]
    platform: NotRequired[str]
    versions: Annotated[NotRequired[dict[str, str]], Field(description="of libraries")]
    git: Annotated[
        NotRequired[str | None],
        Field(description="vlmprune's commit, + where the checkout has changes; null of a wheel"),
    ]
    devices: Annotated[NotRequired[Count], Field(description="how many processes shared the questions")]
    generation: Annotated[
        NotRequired[dict[str, Any]],
        Field(
            description="of the checkpoint's generation_config: used, what changes greedy answers; ignored, what does "
            "not belong to them"
        ),
    ]
    decoding: Annotated[
        NotRequired[dict[str, Any]], Field(description="values in force, by their names in a generation_config")
    ]
    limits: Annotated[
        NotRequired[dict[str, Count]],
        Field(description="pixels or tiles of a picture in force; {} for families without"),
    ]
    model: Annotated[NotRequired[dict[str, Any]], Field(description="its settings")]
    attention: NotRequired[str]
    batch_size: Annotated[NotRequired[Count], Field(description="asked for")]


@with_config(STRICT)
class Result(TypedDict):
    """The content of result.json."""

    schema: Literal[1]
    fingerprint: Annotated[str, Field(description="sha256 of all that can change the answers")]
    settings: Annotated[NotRequired[list[str]], Field(description="as typed")]
    model: Annotated[str, Field(description="name of the choice; of model=path the folder's")]
    method: Annotated[str, Field(description="name of the choice")]
    benchmark: Annotated[
        str,
        Field(description="name of the choice; of benchmark=folder with the folder's and six digits of its content"),
    ]
    ratio: Annotated[Fraction | None, Field(description="as requested; null if not given")]
    keep: Annotated[Count | None, Field(description="as requested; null if not given")]
    subset: Subset
    comparable: Annotated[
        dict[str, str],
        Field(
            description="runs may be compared where all are equal: benchmark, scorer, subset, prompt, model, dtype, "
            "engine (version of all code but the method's and the benchmark's; absent up to 0.2), judge, and, where "
            "they are not the usual ones: pictures (limits of pixels or tiles that are not the checkpoint's), "
            "generation, the convention of flops, and software that scores come from (tokeniser, of captions)"
        ),
    ]
    answers: Answers
    prompt_template: Annotated[
        NotRequired[str],
        Field(
            description="the whole prompt with the place of one image or video, and {prompt} where the `prompt` of a "
            "line of predictions.jsonl stands; that of the first sample has it too; older results and lines lack both"
        ),
    ]
    media: Annotated[
        NotRequired[str],
        Field(
            description="images, or how many frames of a video were given, and how; the limits of their pixels or "
            "tiles in words"
        ),
    ]
    bad_samples: BadSamples
    timings: Timings
    environment: Environment
    finished: Annotated[NotRequired[str], Field(description="UTC date and time")]
    rescored: Annotated[
        NotRequired[dict[str, str]],
        Field(description="by `vlmprune score`: UTC date and time, vlmprune's version; absent where it never was"),
    ]
    judge: Annotated[
        NotRequired[dict[str, str]],
        Field(description="of a judged benchmark, once asked: model, base_url, protocol/version"),
    ]
