"""Answers with compiled decode steps (pruning/static.py), timed in the parts that plain ones are timed in.

What stands before the question runs in a session, the question and the decode steps on the bare model: a hook there
would keep it from being compiled. So what is timed of these is what happens between two calls of the model.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from vlmprune.generation import greedy_from, one_token
from vlmprune.measure.latency import StageClock, Times, mark, synchronize
from vlmprune.methods.base import Method
from vlmprune.models.loading import Loaded
from vlmprune.pruning.clock import Mark, Spans
from vlmprune.pruning.prefix import Prefixes, beginning
from vlmprune.pruning.session import Session
from vlmprune.pruning.static import BUCKET, StaticCaches

IN_PROMPT = ("input_ids", "attention_mask", "mm_token_type_ids")  # inputs with a value for every token


class FirstLogits(LogitsProcessor):
    """Notes when the first token's logits are there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.at: Mark | None = None

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        if self.at is None:
            self.at = mark(self.device)
        return scores


class CompiledAnswers:
    """Answers of one model to batches of one size. backend: torch.compile's, as of `StaticCaches`."""

    def __init__(self, loaded: Loaded, backend: str | None) -> None:
        self.loaded, self.backend = loaded, backend
        self._caches: dict[int, StaticCaches] = {}  # by length in buckets: cases of other lengths must not share one

    def time(self, method: Method, inputs: dict[str, Tensor], new_tokens: int) -> tuple[Times, Prefixes]:
        """As `time_answers`, for prompts of equal length; the first call for a length compiles.

        prefill has the question's own pass with all that generate() does around it. Also returns what stands before the
        questions.
        """
        loaded, adapter = self.loaded, self.loaded.adapter
        clock, logits = StageClock(loaded.device), FirstLogits(loaded.device)
        ids = inputs["input_ids"]
        visual = adapter.visual_mask(ids)
        shared = beginning(visual[0])
        starts = inputs | {name: inputs[name][:, :shared] for name in IN_PROMPT if name in inputs}
        words = [row[~seen].tolist() for row, seen in zip(ids[:, :shared], visual[:, :shared], strict=True)]
        questions = ids[:, shared:].tolist()
        options: dict[str, Any] = {"eos_token_id": None, "logits_processor": LogitsProcessorList([logits])}
        generate = partial(greedy_from, loaded, new_tokens, ids.tolist(), **options)

        synchronize(loaded.device)
        with (
            Session(adapter, method, clock) as session,
            clock.watch(loaded.model, adapter.vision_towers, adapter.projector),
            clock("other"),
        ):
            prefixes = Prefixes.compute(session, starts, words, partial(one_token, loaded))
        asked = mark(loaded.device)
        cache = self._cache(prefixes.valid.shape[1] + len(questions[0]) + new_tokens)
        cache.answer(prefixes, generate, list(range(len(ids))), questions, new_tokens, len(ids))
        end = mark(loaded.device)
        assert logits.at is not None
        question, decode = _between(asked, logits.at), _between(logits.at, end)
        spent, before = clock.spent, clock.whole.milliseconds()
        return {
            "vision": spent["vision"],
            "selection": spent["selection"],
            "projector": spent["projector"],
            "prefill": spent["prefill"] + spent["selection"] + question,
            "first_token": before + question,
            "decode_per_token": decode / (new_tokens - 1) if new_tokens > 1 else None,
            "other": spent["other"],
            "end_to_end": before + question + decode,
        }, prefixes

    def _cache(self, tokens: int) -> StaticCaches:
        """That of prompts and answers of so many tokens together."""
        size = -(-tokens // BUCKET)
        if size not in self._caches:
            self._caches[size] = StaticCaches(self.loaded.model, self.backend)
        return self._caches[size]


def bytes_per_token(prefixes: Prefixes) -> int:
    """What one token of every row takes in a KV cache."""
    return sum((keys.nbytes + values.nbytes) // keys.shape[2] for keys, values in prefixes.layers)


def _between(start: Mark, end: Mark) -> float:
    span = Spans()
    span.add(start, end)
    return span.milliseconds()
