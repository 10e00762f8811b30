"""Times of one batch with compiled decode steps: no hook may stand in a compiled model, so whole calls are timed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprune.evaluate import greedy_from
from vlmprune.measure.latency import StageClock, Times, timed
from vlmprune.methods.base import Method
from vlmprune.models.loading import Loaded
from vlmprune.pruning.prefix import Prefixes, beginning
from vlmprune.pruning.prompt import Record
from vlmprune.pruning.session import Session
from vlmprune.pruning.static import StaticCaches

ALONG = ("input_ids", "attention_mask", "mm_token_type_ids")  # inputs with a column for every token


def time_compiled(
    loaded: Loaded, method: Method, inputs: dict[str, Tensor], new_tokens: int, caches: StaticCaches, **options: Any
) -> tuple[Times, Record]:
    """As `time_answers`, for prompts of equal length with their media at the same place, and 2 new tokens or more.

    The prompts up to their images run eagerly in a session, part by part on the clock. The rest is two calls of
    generate(): of one new token, which counts as prefill, and of all, whose difference is the decode steps.
    """
    ids = inputs["input_ids"]
    shared = beginning(loaded.adapter.visual_mask(ids[0]))
    start = {name: tensor[:, :shared] if name in ALONG else tensor for name, tensor in inputs.items()}
    words = [row[~loaded.adapter.visual_mask(row)].tolist() for row in ids[:, :shared]]
    clock = StageClock(loaded.device)
    adapter = loaded.adapter
    with (
        Session(adapter, method, clock) as session,
        clock.watch(loaded.model, adapter.vision_towers, adapter.projector),
    ):
        times, prefixes = timed(lambda: Prefixes.compute(session, start, words), clock)

    questions, rows = ids[:, shared:].tolist(), list(range(len(ids)))

    def answer(tokens: int) -> float:
        def generate(**given: Any) -> Tensor:
            return greedy_from(loaded, tokens, **given, **options)

        clock = StageClock(loaded.device)
        with clock("answer"):
            # The same cache for both calls: the graphs belong to it.
            caches.answer(prefixes, generate, rows, questions, new_tokens, len(rows))
        return clock.whole.milliseconds()

    first, all_of_it = answer(1), answer(new_tokens)
    begun = times["end_to_end"]
    assert begun is not None and times["prefill"] is not None and times["first_token"] is not None
    record = prefixes.record
    lengths = [length + len(question) for length, question in zip(record.prompt_lengths, questions, strict=True)]
    return times | {
        "prefill": times["prefill"] + first,
        "first_token": times["first_token"] + first,
        "decode_per_token": (all_of_it - first) / (new_tokens - 1),
        "end_to_end": begun + all_of_it,
    }, Record(record.visual_counts, lengths, record.kept, record.selection)
