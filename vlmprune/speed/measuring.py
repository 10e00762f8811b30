"""All cases on one load, in turn, again and again: a machine that is busy or throttled is unfair to none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vlmprune.batching import free_memory, is_out_of_memory
from vlmprune.measure.latency import Times
from vlmprune.measure.memory import cache_bytes, cache_bytes_per_token, peak_mb, reset_peak
from vlmprune.measure.question import time_answers
from vlmprune.models.loading import Loaded
from vlmprune.pruning.adapter import TextTower
from vlmprune.pruning.prompt import Record
from vlmprune.speed.cases import Case
from vlmprune.speed.compiled import CompiledAnswers, bytes_per_token
from vlmprune.speed.settings import Load
from vlmprune.speed.synthetic import Prompts

BACKEND: str | None = None  # of torch.compile; None for transformers' choice
QUESTION = "What is in the middle of the picture?"  # for methods that read it; CLIP pads all questions to one length


@dataclass
class Measured:
    """What one case showed on one load. cache_bytes: of the prompts after prefill; per token: what each step adds."""

    case: Case
    batch_size: int
    times: list[Times] = field(default_factory=list)
    peak_mb: float = 0.0
    peak_since: str = ""
    cache_bytes: int = 0
    cache_bytes_per_token: int = 0
    record: Record | None = None
    out_of_memory: bool = False


class Bench:
    """One model and the load that its cases are measured on.

    towers: by the identity of their checkpoint. advance: told of every call that is over, or left out.
    """

    def __init__(
        self, loaded: Loaded, towers: dict[str, TextTower], load: Load, advance: Callable[[int], None]
    ) -> None:
        self.loaded, self.towers, self.load, self.advance = loaded, towers, load, advance
        self._compiled: CompiledAnswers

    @staticmethod
    def calls(cases: int, batch_sizes: int, load: Load) -> int:
        """How many calls all of it takes."""
        return cases * batch_sizes * (1 + load.warm_up + load.repeats)

    def measure(self, cases: list[Case], prompts: Prompts) -> list[Measured]:
        """Warm-up, then `load.repeats` rounds. A case that runs out of memory is marked, and left out from then on."""
        measured = [Measured(case, prompts.batch_size) for case in cases]
        self._compiled = CompiledAnswers(self.loaded, BACKEND)  # whose caches are of one batch size
        for one in measured:
            self._try(one, lambda one: self._first_call(one, prompts))
            for _ in range(self.load.warm_up):
                self._try(one, lambda one: self._call(one, prompts))
        for turn in range(self.load.repeats):
            start = turn % len(measured)  # nobody always comes first, or after the same one
            for one in measured[start:] + measured[:start]:
                self._try(one, lambda one: self._timed_call(one, prompts))
        return measured

    def _try(self, one: Measured, call: Callable[[Measured], object]) -> None:
        if not one.out_of_memory:
            try:
                call(one)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                one.out_of_memory = True
            if one.out_of_memory:  # what failed is freed only when its error is gone
                free_memory()
        self.advance(1)

    def _first_call(self, one: Measured, prompts: Prompts) -> None:
        """Of one new token: its cache holds the prompts alone. A compiled case compiles here."""
        if one.case.compiled:
            _, shared = self._compiled.time(one.case.method, prompts.inputs, self.load.new_tokens)
            one.record, one.cache_bytes_per_token = shared.record, bytes_per_token(shared)
            one.cache_bytes = one.cache_bytes_per_token * (self.load.prompt_tokens + shared.record.visual_counts[0][0])
        else:
            _, one.record, output = self._plain_call(one, prompts, 1, return_dict_in_generate=True)
            one.cache_bytes = cache_bytes(output.past_key_values)
            one.cache_bytes_per_token = cache_bytes_per_token(output.past_key_values)

    def _timed_call(self, one: Measured, prompts: Prompts) -> None:
        one.peak_since = reset_peak(self.loaded.device)
        times = self._call(one, prompts)
        one.peak_mb = max(one.peak_mb, peak_mb(self.loaded.device))
        one.times.append(times)

    def _call(self, one: Measured, prompts: Prompts) -> Times:
        if one.case.compiled:
            return self._compiled.time(one.case.method, prompts.inputs, self.load.new_tokens)[0]
        return self._plain_call(one, prompts, self.load.new_tokens)[0]

    def _plain_call(
        self, one: Measured, prompts: Prompts, new_tokens: int, **options: Any
    ) -> tuple[Times, Record, Any]:
        source = one.case.text_tower
        tower = None if source is None else self.towers[source.identity]
        # Without an end-of-sequence token every prompt gets all its tokens.
        return time_answers(
            self.loaded,
            one.case.method,
            prompts.inputs,
            [QUESTION] * prompts.batch_size,
            new_tokens,
            tower,
            eos_token_id=None,
            **options,
        )
