"""The batch-1 latency pass of a run: pruned and unpruned in turn on the same questions, and their real KV caches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.engine.adapter import TextRelevance
from vlmprune.engine.compiled import CompiledModel, FixedCache, compiled_context
from vlmprune.engine.kv_cache import cache_bytes
from vlmprune.engine.prompt_state import Record
from vlmprune.engine.session import Session
from vlmprune.evaluation.generation import greedy, inputs_for
from vlmprune.evaluation.media_loader import MediaCache
from vlmprune.measure.environment import describe_conditions, versions
from vlmprune.measure.latency import StageClock, Times, summarise, time_parts
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.models.loading import LoadedModel

WARM_UP = 2


def time_generate(
    loaded: LoadedModel,
    method: Method,
    inputs: dict[str, Tensor],
    questions: list[str],
    new_tokens: int,
    text_tower: TextRelevance | None = None,
    compiled: CompiledModel | None = None,
    **options: Any,
) -> tuple[Times, Record, Any]:
    """Run one greedy generate() of at most `new_tokens` tokens under `method`, and return its times in ms, the record
    of its prefill and its output. questions: one per prompt. compiled: the compiled model, None for the plain one.
    options: of generate()."""
    adapter, clock = loaded.adapter, StageClock(loaded.device)
    with (
        compiled_context(compiled),
        Session(adapter, method, clock, text_tower) as session,
        clock.watch(loaded.model, adapter.vision_towers, adapter.projector),
    ):
        session.ask(questions)
        if compiled is not None:
            compiled.attach(session)
            options["past_key_values"] = FixedCache(new_tokens)
        times, output = time_parts(partial(greedy, loaded, inputs, new_tokens, **options), clock)
    assert session.record is not None
    return times, session.record, output


def measure_questions(
    samples: list[Sample],
    benchmark: Benchmark,
    loaded: LoadedModel,
    method: Method,
    count: int,
    text_tower: TextRelevance | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the latency summary and KV-cache bytes, {"pruned": ..., "unpruned": ...}.

    `count` questions, at most all, spread over `samples`, after a warm-up. Preprocessing is not part of the times.
    advance: called with 1 after each of them.
    """
    count = min(count, len(samples))
    chosen = [samples[index * len(samples) // count] for index in range(count)]
    images = MediaCache(benchmark, loaded)
    times: dict[str, list[Times]] = {"unpruned": [], "pruned": []}
    records: dict[str, list[Record]] = {"unpruned": [], "pruned": []}
    sides: list[tuple[str, Method]] = [("unpruned", Unpruned()), ("pruned", method)]
    warm_up = chosen[:WARM_UP]
    for number, sample in enumerate(warm_up + chosen):
        inputs, asked = inputs_for([sample], benchmark, loaded, images), [sample.question]
        order = sides if number % 2 else sides[::-1]  # each side is first for half of the questions
        for side, own in order:
            row, record, _ = time_generate(loaded, own, inputs, asked, benchmark.max_new_tokens, text_tower)
            if number >= len(warm_up):
                times[side].append(row)
                records[side].append(record)
        advance(int(number >= len(warm_up)))
    measured_under = describe_conditions(loaded.model)
    cache: dict[str, int] = {}
    for side, own in sides:
        *_, output = time_generate(loaded, own, inputs, asked, 1, text_tower, return_dict_in_generate=True)
        cache[side] = cache_bytes(output.past_key_values)
    latency = {side: summarise(rows) for side, rows in times.items()}
    lengths = {"tokens": mean_lengths(records["unpruned"], records["pruned"])}
    about = {"samples": count, "batch_size": 1, **lengths, "conditions": measured_under}
    return {
        **latency,
        **about,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }, cache


def mean_lengths(unpruned: list[Record], pruned: list[Record]) -> dict[str, float]:
    """Return mean tokens over records of one prompt each: text, visual before pruning, visual after (layer mean)."""
    text = [sum(record.prompt_lengths) - sum(record.visual_counts[0]) for record in unpruned]
    before = [n for record in unpruned for n in record.visual_counts[0]]
    after = [n for record in pruned for layer in record.visual_counts for n in layer]
    return {"text": fmean(text), "visual_before": fmean(before), "visual_after": fmean(after)}
