"""Evaluation of a benchmark's questions in batches.

Questions about one image are grouped. If the kept tokens do not depend on the question, the shared prefix of their
prompts runs through encoder, selection and decoder once (pruning/prefix.py), and each question continues from its
KV cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmprune.answers import Answers
from vlmprune.batching import WINDOW, BatchSize, by_image, does_not_fit, windows
from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.generation import greedy, greedy_from, one_token, without_filler
from vlmprune.machine import lacks_memory
from vlmprune.measure.positions import positions_taken
from vlmprune.measure.spent import Spent
from vlmprune.media_cache import Images
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.progress import say
from vlmprune.prompt import Prompt, read_prompt
from vlmprune.pruning.compiled import Compiled, decoder_of
from vlmprune.pruning.prefix import Prefixes
from vlmprune.pruning.session import Session
from vlmprune.records import RunDirectory

BACKEND: str | None = None  # of torch.compile; None for inductor
STEP = 8  # tokens that the length of compiled questions is rounded up to


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation; none of them changes an answer in float32."""

    batch_size: int = 32
    share_prefix: bool = True
    compile: bool = False
    skip_bad: bool = False  # record a sample that cannot be used and skip it; else raise a UserError
    title: str = ""  # the benchmark's name, printed with the id of such a sample


class Evaluation:
    """Runs one method on one benchmark's questions, and writes each batch of answers to a run directory.

    session: of the method, not entered yet. advance: called with the number of samples that were just done.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        loaded: Loaded,
        session: Session,
        directory: RunDirectory,
        advance: Callable[[int], None],
        settings: Settings,
    ) -> None:
        self.benchmark, self.loaded, self.session = benchmark, loaded, session
        self.directory, self.advance, self.settings = directory, advance, settings
        self.batch = BatchSize(settings.batch_size)
        self.answers = Answers(benchmark, loaded, directory, session.method.reads_question)
        # Twice a window: the one in use, and the next.
        size = max(64, 2 * WINDOW * settings.batch_size)
        self.images = Images(benchmark, loaded, size, named=session.features is not None)
        self.compiled = Compiled(loaded.adapter, BACKEND) if settings.compile else None
        self.spent = Spent()

    def run(self, samples: list[Sample]) -> None:
        """Answer `samples`. Raise UserError for a sample that cannot be used or does not fit in memory."""
        for window, following in windows(by_image(samples), self.settings.batch_size):
            self.images.prefetch(window + following)
            with self.spent.on("media", self.loaded.device):
                prompts, broken = self._usable(window)
            self.advance(len(window) - len(prompts))
            try:
                together, alone = self._parted(prompts)
                self._ask_together(together)
                self._ask_whole(alone)
            except (RuntimeError, MemoryError) as error:
                if lacks_memory(error):
                    raise does_not_fit(error) from error
                raise
            if broken is not None:  # the samples before it are answered
                raise broken

    def timings(self) -> dict[str, Any]:
        """Return the seconds by activity for result.json; shared prefixes and single questions are separate."""
        return {
            **{f"{part}_s": seconds for part, seconds in self.spent.seconds.items()},
            "beginnings": self.spent.beginnings,
            "whole_prompts": self.spent.whole,
            "batch_size": {"asked": self.batch.asked, "used": self.batch.size},
        }

    def _usable(self, samples: list[Sample]) -> tuple[list[Prompt], UserError | None]:
        """Return the prompts of the usable samples; unless bad ones are skipped, up to the first, and its error."""
        usable: list[Prompt] = []
        bad: list[dict[str, str]] = []
        for sample in samples:
            try:
                usable.append(read_prompt(sample, self.benchmark, self.loaded, self.images))
            except BadSample as error:
                named = f" (benchmark={self.settings.title})" if self.settings.title else ""
                line = f"sample {sample.id}: {error}{named}"
                if not self.settings.skip_bad:
                    broken = UserError(f"{line}; on_bad_sample=skip leaves such samples out")
                    broken.__cause__ = error
                    return usable, broken
                bad.append({"id": sample.id, "reason": str(error)})
                say(f"left out: {line}")
        self.directory.append_bad(bad)
        return usable, None

    def _parted(self, prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
        """Return the prompts to run from a shared prefix (none if off, or useless and not compiled), and the others."""
        if not self.settings.share_prefix or self.session.method.reads_question:
            return [], prompts
        together = [prompt for prompt in prompts if prompt.shared]
        repeats = len({prompt.beginning for prompt in together}) < len(together)
        if not repeats and self.compiled is None:
            return [], prompts
        return together, [prompt for prompt in prompts if not prompt.shared]

    def _ask_whole(self, prompts: list[Prompt]) -> None:
        """Run each question with its whole prompt, inside the session."""
        if not prompts:
            return
        self.spent.whole += len(prompts)
        with self.session:
            self.batch.each(sorted(prompts, key=lambda prompt: len(prompt.ids)), self._answer_whole)

    def _answer_whole(self, batch: list[Prompt]) -> None:
        loaded, session = self.loaded, self.session
        with self.spent.on("questions", loaded.device):
            inputs = self._shown([prompt.ids for prompt in batch], [prompt.media for prompt in batch])
            session.ask([prompt.sample.question for prompt in batch])
            output = greedy(loaded, inputs, self.benchmark.max_new_tokens)
        assert session.record is not None and session.segment is not None
        new = output[:, inputs["input_ids"].shape[1] :]
        taken = positions_taken(session.segment.next_position)
        self._write(batch, new, session.record, list(range(len(batch))), [0] * len(batch), taken)

    def _ask_together(self, prompts: list[Prompt]) -> None:
        """Run each shared prefix once, then every question from a copy of its KV cache."""
        groups: dict[Any, list[Prompt]] = {}
        for prompt in prompts:
            groups.setdefault(prompt.beginning, []).append(prompt)
        self.batch.each(list(groups.values()), self._answer_groups, "images")

    def _answer_groups(self, groups: list[list[Prompt]]) -> None:
        firsts = [group[0] for group in groups]
        visual = self.loaded.adapter.visual_mask
        with self.spent.on("shared", self.loaded.device), self.session:
            starts = [prompt.ids[: prompt.shared] for prompt in firsts]
            words = [
                [i for i, seen in zip(ids, visual(torch.tensor(ids)).tolist(), strict=True) if not seen]
                for ids in starts
            ]
            inputs = self._shown(starts, [prompt.media for prompt in firsts])
            prefixes = Prefixes.compute(self.session, inputs, words, partial(one_token, self.loaded))
        self.spent.beginnings += len(groups)
        rows = {prompt.sample.id: row for row, group in enumerate(groups) for prompt in group}
        # After out-of-memory in the middle of a group, answered questions are not run again.
        open_prompts = [prompt for group in groups for prompt in group if prompt.sample.id not in self.answers.done]
        open_prompts.sort(key=lambda prompt: len(prompt.question))
        self.batch.each(open_prompts, partial(self._answer_from, prefixes, rows))

    def _answer_from(self, prefixes: Prefixes, rows: dict[str, int], batch: list[Prompt]) -> None:
        own = [rows[prompt.sample.id] for prompt in batch]
        questions = [prompt.question for prompt in batch]
        prompts = [prompt.ids for prompt in batch]
        generate = partial(greedy_from, self.loaded, self.benchmark.max_new_tokens, prompts)
        with self.spent.on("questions", self.loaded.device), torch.inference_mode(), decoder_of(self.compiled):
            if self.compiled is None:
                new = prefixes.answer(generate, own, questions)
            else:  # a fixed number of rows, filled up with copies of the last one
                more = self.batch.size - len(own)
                empty = partial(self.compiled.empty, self.benchmark.max_new_tokens)
                every = prefixes.answer(generate, own + own[-1:] * more, questions + questions[-1:] * more, empty, STEP)
                new = every[: len(own)]
        said, before = [len(question) for question in questions], positions_taken(prefixes.next_position)
        taken = [before[row] + words for row, words in zip(own, said, strict=True)]
        self._write(batch, new, prefixes.record, own, said, taken)

    def _shown(self, ids: list[list[int]], media: list[list[Media]]) -> dict[str, Tensor]:
        """Return the model's inputs, after passing their tiles to the session."""
        self.session.show([tile for own in media for medium in own for tile in medium.tiles])
        return self.loaded.preprocessor.padded(ids, media, self.loaded.device, self.loaded.model.dtype)

    def _write(
        self, batch: list[Prompt], new: Tensor, record: Any, rows: list[int], said: list[int], taken: list[int]
    ) -> None:
        samples, media = [prompt.sample for prompt in batch], [self.images[prompt.sample] for prompt in batch]
        answers = without_filler(self.loaded, new, [prompt.ids for prompt in batch])
        self.answers.write(samples, media, answers, record, rows, said, taken)
        self.advance(len(batch))
