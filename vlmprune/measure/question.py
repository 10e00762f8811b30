"""The batch-1 pass of a run: pruned and unpruned in turn on the same questions, and their real KV caches."""

from __future__ import annotations

from functools import partial
from typing import Any

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.evaluate import Images, greedy, inputs_for
from vlmprune.measure.latency import StageClock, summarise, timed
from vlmprune.measure.memory import cache_bytes
from vlmprune.methods.base import Method
from vlmprune.methods.none import Unpruned
from vlmprune.models.loading import Loaded
from vlmprune.pruning.adapter import TextTower
from vlmprune.pruning.session import Session

WARM_UP = 2


def measure_questions(
    samples: list[Sample],
    benchmark: Benchmark,
    loaded: Loaded,
    method: Method,
    count: int,
    text_tower: TextTower | None = None,
) -> tuple[dict[str, Any] | None, dict[str, int] | None]:
    """Latency summary and KV-cache bytes, {"pruned": ..., "unpruned": ...}; (None, None) where count is 0.

    `count` questions spread over `samples`, after a warm-up. Preprocessing is not part of the times.
    """
    if count == 0:
        return None, None
    count = min(count, len(samples))
    chosen = [samples[index * len(samples) // count] for index in range(count)]
    images = Images(benchmark, loaded)
    times: dict[str, list[dict[str, float | None]]] = {"unpruned": [], "pruned": []}
    cache: dict[str, int] = {}
    sides: list[tuple[str, Method]] = [("unpruned", Unpruned()), ("pruned", method)]
    warm_up = chosen[:WARM_UP]
    for number, sample in enumerate(warm_up + chosen):
        inputs = inputs_for([sample], benchmark, loaded, images)
        order = sides if number % 2 else sides[::-1]  # neither side always comes first
        for side, side_method in order:
            clock = StageClock(loaded.device)
            adapter = loaded.adapter
            with (
                Session(adapter, side_method, clock, text_tower) as session,
                clock.watch(loaded.model, adapter.vision_towers, adapter.projector),
            ):
                session.ask([sample.question])
                row = timed(partial(greedy, loaded, inputs, benchmark.max_new_tokens), clock)
            if number >= len(warm_up):
                times[side].append(row)
    for side, side_method in sides:
        with Session(loaded.adapter, side_method, text_tower=text_tower) as session:
            session.ask([sample.question])
            output = greedy(loaded, inputs, 1, return_dict_in_generate=True)
        cache[side] = cache_bytes(output.past_key_values)
    latency = {side: summarise(rows) for side, rows in times.items()}
    return {**latency, "samples": count, "batch_size": 1}, cache
