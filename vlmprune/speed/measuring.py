"""All cases on one load, in turn, again and again: a machine that is busy or throttled is unfair to none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vlmprune.batching import free_memory
from vlmprune.machine import lacks_memory
from vlmprune.measure.latency import Times
from vlmprune.measure.memory import cache_bytes, cache_bytes_per_token, peak_mb, reset_peak
from vlmprune.measure.question import time_answers
from vlmprune.models.loading import Loaded
from vlmprune.pruning.adapter import TextTower
from vlmprune.pruning.compiled import Compiled
from vlmprune.pruning.prompt import Record
from vlmprune.speed.cases import Case
from vlmprune.speed.settings import Load
from vlmprune.speed.synthetic import Prompts

BACKEND: str | None = None  # of torch.compile; None for inductor
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
        self._compiled = Compiled(loaded.adapter, BACKEND)

    @staticmethod
    def calls(cases: list[Case], batch_sizes: int, load: Load) -> int:
        """How many calls all of it takes."""
        plain = sum(not case.compiled for case in cases)
        early = plain if plain < len(cases) else 0
        return (len(cases) * (1 + load.warm_up + load.repeats) + early) * batch_sizes

    def measure(self, cases: list[Case], prompts: Prompts) -> Iterator[list[Measured]]:
        """Warm-up, then `load.repeats` rounds; what is known so far after each of them, in the order of `cases`.

        Compiling takes minutes, and may fail. So the other cases have a round of their own before it. A case that runs
        out of memory is marked, and left out from then on.
        """
        measured = [Measured(case, prompts.batch_size) for case in cases]
        plain = [one for one in measured if not one.case.compiled]
        self._prepare(plain, prompts)
        if len(plain) < len(measured):
            self._round(plain, prompts)
            yield plain
            self._prepare([one for one in measured if one.case.compiled], prompts)
        for turn in range(self.load.repeats):
            start = turn % len(measured)  # nobody always comes first, or after the same one
            self._round(measured[start:] + measured[:start], prompts)
            yield measured

    def _prepare(self, cases: list[Measured], prompts: Prompts) -> None:
        for one in cases:
            self._try(one, lambda one: self._first_call(one, prompts))
            for _ in range(self.load.warm_up):
                self._try(one, lambda one: self._call(one, prompts))

    def _round(self, cases: list[Measured], prompts: Prompts) -> None:
        for one in cases:
            self._try(one, lambda one: self._timed_call(one, prompts))

    def _try(self, one: Measured, call: Callable[[Measured], object]) -> None:
        if not one.out_of_memory:
            try:
                call(one)
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                one.out_of_memory = True
            if one.out_of_memory:  # what failed is freed only when its error is gone
                free_memory()
        self.advance(1)

    def _first_call(self, one: Measured, prompts: Prompts) -> None:
        """Its cache shows what the prompts take. A compiled case compiles here."""
        new_tokens = self.load.new_tokens if one.case.compiled else 1
        _, one.record, output = self._answer(one.case, prompts, new_tokens, return_dict_in_generate=True)
        cache = output.past_key_values
        one.cache_bytes_per_token = cache_bytes_per_token(cache)
        if one.case.compiled:  # which has room for more than the prompts
            one.cache_bytes = one.cache_bytes_per_token * max(one.record.prompt_lengths)
        else:
            one.cache_bytes = cache_bytes(cache)

    def _timed_call(self, one: Measured, prompts: Prompts) -> None:
        one.peak_since = reset_peak(self.loaded.device)
        times = self._call(one, prompts)
        one.peak_mb = max(one.peak_mb, peak_mb(self.loaded.device))
        one.times.append(times)

    def _call(self, one: Measured, prompts: Prompts) -> Times:
        return self._answer(one.case, prompts, self.load.new_tokens)[0]

    def _answer(self, case: Case, prompts: Prompts, new_tokens: int, **options: Any) -> tuple[Times, Record, Any]:
        source = case.text_tower
        tower = None if source is None else self.towers[source.identity]
        # Without an end-of-sequence token every prompt gets all its tokens.
        return time_answers(
            self.loaded,
            case.method,
            prompts.inputs,
            [QUESTION] * prompts.batch_size,
            new_tokens,
            tower,
            self._compiled if case.compiled else None,
            eos_token_id=None,
            **options,
        )
