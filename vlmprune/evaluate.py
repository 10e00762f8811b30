"""Answering a benchmark's questions in batches.

Questions about one image stand together. Where the method keeps the same tokens whatever is asked, what their prompts
have in common runs through encoder, selection and decoder once (pruning/prefix.py), and each question goes on from
there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmprune.answers import Answers
from vlmprune.batching import WINDOW, BatchSize, by_image, does_not_fit, is_out_of_memory, windows
from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.errors import UserError
from vlmprune.media_cache import Images
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.progress import say
from vlmprune.pruning.prefix import Prefixes, beginning
from vlmprune.pruning.session import Session
from vlmprune.pruning.static import StaticCaches
from vlmprune.records import RunDirectory


@dataclass(frozen=True)
class Settings:
    """How to evaluate; none of it changes an answer in float32."""

    batch_size: int = 32
    share_prefix: bool = True
    compile: bool = False
    skip_bad: bool = False  # note a sample whose media cannot be had and leave it out; else it raises a UserError


@dataclass(frozen=True)
class Prompt:
    """A question with its whole prompt. shared: how many of its ids other questions about the image begin with."""

    sample: Sample
    ids: list[int]
    media: list[Media]
    shared: int

    @property
    def question(self) -> list[int]:
        """What is left of the prompt after the shared beginning."""
        return self.ids[self.shared :]


@dataclass
class Spent:
    """Seconds of an evaluation: waiting for images, beginnings shared by several questions, and questions."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("media", "shared", "questions"), 0.0))
    beginnings: int = 0

    @contextmanager
    def on(self, part: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds[part] += time.perf_counter() - start


def inputs_for(samples: list[Sample], benchmark: Benchmark, loaded: Loaded, images: Images) -> dict[str, Tensor]:
    """Inputs of generate() for a batch of samples."""
    return loaded.preprocessor.batch(
        [benchmark.prompt(sample) for sample in samples],
        [images[sample] for sample in samples],
        loaded.device,
        loaded.model.dtype,
    )


def greedy(loaded: Loaded, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any) -> Any:
    """Greedy decoding, as every published protocol uses. Returns what generate() returns."""
    with torch.inference_mode():
        return loaded.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **options)


def greedy_from(loaded: Loaded, max_new_tokens: int, **inputs: Any) -> Tensor:
    """The same from a filled cache; whoever calls it decides whether gradients are tracked."""
    return loaded.model.generate(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **inputs)


class Evaluation:
    """One method's answers to one benchmark's questions, written to a run directory as they come.

    session: of the method, not open yet. advance: told how many samples are done.
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
        # Twice a window: one in use, and the beginning of the next.
        size = max(64, 2 * WINDOW * settings.batch_size)
        self.images = Images(benchmark, loaded, size, named=session.features is not None)
        self.caches = StaticCaches(loaded.model) if settings.compile else None
        self.spent = Spent()

    def run(self, samples: list[Sample]) -> None:
        """Answer `samples`. Raises UserError for a sample that cannot be used, and where one does not fit in memory."""
        for window, following in windows(by_image(samples), self.settings.batch_size):
            self.images.prefetch(window + following)
            with self.spent.on("media", self.loaded.device):
                prompts = self._prompts(self._usable(window))
            self.advance(len(window) - len(prompts))
            beginnings = {self._beginning(prompt) for prompt in prompts}
            shares = (
                self.settings.share_prefix
                and not self.session.method.reads_question
                and all(prompt.shared for prompt in prompts)
            )
            try:
                if shares and (len(beginnings) < len(prompts) or self.caches is not None):
                    self._ask_together(prompts)
                else:
                    self._ask_whole(prompts)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise does_not_fit(error) from error
                raise

    def _usable(self, samples: list[Sample]) -> list[Sample]:
        """The samples whose media could be decoded."""
        usable, bad = [], []
        for sample in samples:
            try:
                self.images[sample]
            except BadSample as error:
                if not self.settings.skip_bad:
                    raise UserError(
                        f"sample {sample.id}: {error}; on_bad_sample=skip leaves such samples out"
                    ) from error
                bad.append({"id": sample.id, "reason": str(error)})
                say(f"left out: sample {sample.id}: {error}")
            else:
                usable.append(sample)
        self.directory.append_bad(bad)
        return usable

    def _prompts(self, samples: list[Sample]) -> list[Prompt]:
        if not samples:
            return []
        preprocessor, adapter = self.loaded.preprocessor, self.loaded.adapter
        questions = [self.benchmark.prompt(sample) for sample in samples]
        ids, media = preprocessor.tokenize(questions, [self.images[sample] for sample in samples])
        prompts = []
        for sample, own, shown in zip(samples, ids, media, strict=True):
            shared = beginning(adapter.visual_mask(torch.tensor(own)))
            prompts.append(Prompt(sample, own, shown, min(shared, len(own) - 1)))
        return prompts

    @staticmethod
    def _beginning(prompt: Prompt) -> tuple[str, tuple[int, ...]]:
        return prompt.sample.image_id, tuple(prompt.ids[: prompt.shared])

    def _ask_whole(self, prompts: list[Prompt]) -> None:
        """Each question with its whole prompt, inside the session."""
        with self.session:
            self.batch.each(sorted(prompts, key=lambda prompt: len(prompt.ids)), self._answer_whole)

    def _answer_whole(self, batch: list[Prompt]) -> None:
        loaded, session = self.loaded, self.session
        with self.spent.on("questions", loaded.device):
            inputs = self._shown([prompt.ids for prompt in batch], [prompt.media for prompt in batch])
            session.ask([prompt.sample.question for prompt in batch])
            output = greedy(loaded, inputs, self.benchmark.max_new_tokens)
        assert session.record is not None
        new = output[:, inputs["input_ids"].shape[1] :]
        self._write(batch, new, session.record, list(range(len(batch))), [0] * len(batch))

    def _ask_together(self, prompts: list[Prompt]) -> None:
        """The prompts' common beginnings once each, then every question from a copy of its own."""
        groups: dict[tuple[str, tuple[int, ...]], list[Prompt]] = {}
        for prompt in prompts:
            groups.setdefault(self._beginning(prompt), []).append(prompt)
        self.batch.each(list(groups.values()), self._answer_groups)

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
            prefixes = Prefixes.compute(self.session, inputs, words)
        self.spent.beginnings += len(groups)
        rows = {prompt.sample.id: row for row, group in enumerate(groups) for prompt in group}
        # After out-of-memory in the middle of a group, those that are answered are not asked again.
        open_prompts = [prompt for group in groups for prompt in group if prompt.sample.id not in self.answers.done]
        open_prompts.sort(key=lambda prompt: len(prompt.question))
        self.batch.each(open_prompts, partial(self._answer_from, prefixes, rows))

    def _answer_from(self, prefixes: Prefixes, rows: dict[str, int], batch: list[Prompt]) -> None:
        own = [rows[prompt.sample.id] for prompt in batch]
        questions = [prompt.question for prompt in batch]
        generate = partial(greedy_from, self.loaded, self.benchmark.max_new_tokens)
        with self.spent.on("questions", self.loaded.device):
            if self.caches is None:
                with torch.inference_mode():
                    new = prefixes.answer(generate, own, questions)
            else:
                new = self.caches.answer(
                    prefixes, generate, own, questions, self.benchmark.max_new_tokens, self.batch.size
                )
        self._write(batch, new, prefixes.record, own, [len(question) for question in questions])

    def _shown(self, ids: list[list[int]], media: list[list[Media]]) -> dict[str, Tensor]:
        """The model's inputs; the session is told what they show."""
        self.session.show([tile for own in media for medium in own for tile in medium.tiles])
        return self.loaded.preprocessor.padded(ids, media, self.loaded.device, self.loaded.model.dtype)

    def _write(self, batch: list[Prompt], new: Tensor, record: Any, rows: list[int], said: list[int]) -> None:
        samples, media = [prompt.sample for prompt in batch], [self.images[prompt.sample] for prompt in batch]
        self.answers.write(samples, media, new, record, rows, said)
        self.advance(len(batch))
