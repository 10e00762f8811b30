"""Evaluation of a plan: models and session, prompts, batches of questions, and the time that each part takes.

Questions about one image are grouped. If the kept tokens do not depend on the question, the shared prefix of their
prompts runs through encoder, selection and decoder once (engine/shared_prefix.py), and each question continues from its
KV cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.config.settings import RunConfig
from vlmprune.engine.adapter import TextRelevance
from vlmprune.engine.compiled import CompiledModel, compiled_context
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.engine.session import Session
from vlmprune.engine.shared_prefix import Prefixes, prefix_length
from vlmprune.errors import UserError
from vlmprune.evaluation.batching import WINDOW, BatchSize, group_by_image, memory_error, windows
from vlmprune.evaluation.generation import decode_one_token, greedy, greedy_from, without_filler
from vlmprune.evaluation.media_loader import MediaCache
from vlmprune.evaluation.plan import Plan, Resources
from vlmprune.evaluation.predictions import AnswerWriter
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.hashing import data_hash
from vlmprune.machine import is_memory_error
from vlmprune.measure.environment import versions
from vlmprune.measure.positions import position_limit, positions_taken
from vlmprune.models import loading
from vlmprune.models.checkpoint import with_identity
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import LoadedModel
from vlmprune.models.preprocessing import Media, place_media
from vlmprune.terminal import say

BEYOND = 8  # times the decoder's positions; a longer prompt is refused, since it would take minutes


@dataclass(frozen=True)
class Prompt:
    """A question with its whole prompt.

    media: in the order of the prompt. order: the index of each among the sample's own media. shared: length of the
    prefix of ids that it shares with other questions about the image.
    """

    sample: Sample
    ids: list[int]
    media: list[Media]
    order: tuple[int, ...]
    shared: int

    @property
    def prefix_key(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """Key of the shared prefix, with the image and the order of media, since placeholder ids do not name images."""
        return self.sample.image_id, self.order, tuple(self.ids[: self.shared])

    @property
    def question(self) -> list[int]:
        """Ids of the prompt after the shared prefix."""
        return self.ids[self.shared :]


def read_prompt(sample: Sample, benchmark: Benchmark, loaded: LoadedModel, images: MediaCache) -> Prompt:
    """Return the prompt of a sample. Raise BadSample if the model cannot take its media or its text."""
    given = images[sample]  # before the question: a row that lacks it lacks its media too
    question = benchmark.prompt(sample)
    (ids,), (media,) = loaded.preprocessor.tokenize([question], [given])
    order, _ = place_media(question, [medium.kind for medium in given])
    visual = loaded.adapter.visual_mask(torch.tensor(ids))
    limit, words = position_limit(loaded.adapter.config.text_config), int((~visual).sum())
    if limit is not None and words > BEYOND * limit:
        raise BadSample(f"its prompt has {words:,} tokens of text; the decoder was made for {limit:,} positions")
    shared = prefix_length(visual)
    return Prompt(sample, ids, media, tuple(order), min(shared, len(ids) - 1))


@dataclass
class ActivityTimes:
    """Seconds of an evaluation: waiting for images, prefixes shared by several questions, and questions."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("media", "shared", "questions"), 0.0))
    prefixes: int = 0  # shared prefixes that were run
    whole: int = 0  # questions that were run with their whole prompt

    @contextmanager
    def on(self, part: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:  # a batch that did not fit into memory took its time too
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            self.seconds[part] += max(0.0, time.perf_counter() - start)


BACKEND: str | None = None  # of torch.compile; None for inductor
STEP = 8  # tokens that the length of compiled questions is rounded up to


@dataclass(frozen=True)
class EvaluationSettings:
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
        loaded: LoadedModel,
        session: Session,
        directory: RunDirectory,
        advance: Callable[[int], None],
        settings: EvaluationSettings,
    ) -> None:
        self.benchmark, self.loaded, self.session = benchmark, loaded, session
        self.directory, self.advance, self.settings = directory, advance, settings
        self.batch = BatchSize(settings.batch_size)
        self.answers = AnswerWriter(benchmark, loaded, directory, session.method)
        # Twice a window: the one in use, and the next.
        size = max(64, 2 * WINDOW * settings.batch_size)
        self.images = MediaCache(benchmark, loaded, size, named=session.features is not None)
        self.compiled = CompiledModel(loaded.adapter, BACKEND) if settings.compile else None
        self.spent = ActivityTimes()

    def run(self, samples: list[Sample]) -> None:
        """Answer `samples`. Raise UserError for a sample that cannot be used or does not fit in memory."""
        for window, following in windows(group_by_image(samples), self.settings.batch_size):
            self.images.prefetch(window + following)
            with self.spent.on("media", self.loaded.device):
                prompts, broken = self._usable(window)
            self.advance(len(window) - len(prompts))
            try:
                together, alone = self._split_by_prefix(prompts)
                self._ask_from_prefixes(together)
                self._ask_whole(alone)
            except (RuntimeError, MemoryError) as error:
                if is_memory_error(error):
                    raise memory_error(error) from error
                raise
            if broken is not None:  # the samples before it are answered
                raise broken

    def timings(self) -> dict[str, Any]:
        """Return the seconds by activity for result.json; shared prefixes and single questions are separate."""
        return {
            **{f"{part}_s": seconds for part, seconds in self.spent.seconds.items()},
            "beginnings": self.spent.prefixes,
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

    def _split_by_prefix(self, prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
        """Return the prompts to run from a shared prefix (none if off, or useless and not compiled), and the others."""
        if not self.settings.share_prefix or self.session.method.reads_question:
            return [], prompts
        together = [prompt for prompt in prompts if prompt.shared]
        repeats = len({prompt.prefix_key for prompt in together}) < len(together)
        if not repeats and self.compiled is None:
            return [], prompts
        return together, [prompt for prompt in prompts if not prompt.shared]

    def _ask_whole(self, prompts: list[Prompt]) -> None:
        """Run each question with its whole prompt, inside the session."""
        if not prompts:
            return
        self.spent.whole += len(prompts)
        with self.session:
            self.batch.run_batches(sorted(prompts, key=lambda prompt: len(prompt.ids)), self._answer_whole)

    def _answer_whole(self, batch: list[Prompt]) -> None:
        loaded, session = self.loaded, self.session
        with self.spent.on("questions", loaded.device):
            inputs = self._inputs([prompt.ids for prompt in batch], [prompt.media for prompt in batch])
            session.ask([prompt.sample.question for prompt in batch])
            output = greedy(loaded, inputs, self.benchmark.max_new_tokens)
        assert session.record is not None and session.segment is not None
        new = output[:, inputs["input_ids"].shape[1] :]
        taken = positions_taken(session.segment.next_position)
        self._write(batch, new, session.record, list(range(len(batch))), [0] * len(batch), taken)

    def _ask_from_prefixes(self, prompts: list[Prompt]) -> None:
        """Run each shared prefix once, then every question from a copy of its KV cache."""
        groups: dict[Any, list[Prompt]] = {}
        for prompt in prompts:
            groups.setdefault(prompt.prefix_key, []).append(prompt)
        self.batch.run_batches(list(groups.values()), self._answer_groups, "images")

    def _answer_groups(self, groups: list[list[Prompt]]) -> None:
        firsts = [group[0] for group in groups]
        visual = self.loaded.adapter.visual_mask
        with self.spent.on("shared", self.loaded.device), self.session:
            starts = [prompt.ids[: prompt.shared] for prompt in firsts]
            words = [
                [i for i, seen in zip(ids, visual(torch.tensor(ids)).tolist(), strict=True) if not seen]
                for ids in starts
            ]
            inputs = self._inputs(starts, [prompt.media for prompt in firsts])
            prefixes = Prefixes.compute(self.session, inputs, words, partial(decode_one_token, self.loaded))
        self.spent.prefixes += len(groups)
        rows = {prompt.sample.id: row for row, group in enumerate(groups) for prompt in group}
        # After out-of-memory in the middle of a group, answered questions are not run again.
        open_prompts = [prompt for group in groups for prompt in group if prompt.sample.id not in self.answers.done]
        open_prompts.sort(key=lambda prompt: len(prompt.question))
        self.batch.run_batches(open_prompts, partial(self._answer_from_prefixes, prefixes, rows))

    def _answer_from_prefixes(self, prefixes: Prefixes, rows: dict[str, int], batch: list[Prompt]) -> None:
        own = [rows[prompt.sample.id] for prompt in batch]
        questions = [prompt.question for prompt in batch]
        prompts = [prompt.ids for prompt in batch]
        generate = partial(greedy_from, self.loaded, self.benchmark.max_new_tokens, prompts)
        with self.spent.on("questions", self.loaded.device), torch.inference_mode(), compiled_context(self.compiled):
            if self.compiled is None:
                new = prefixes.answer(generate, own, questions)
            else:  # a fixed number of rows, filled up with copies of the last one
                more = self.batch.size - len(own)
                empty = partial(self.compiled.new_cache, self.benchmark.max_new_tokens)
                every = prefixes.answer(generate, own + own[-1:] * more, questions + questions[-1:] * more, empty, STEP)
                new = every[: len(own)]
        said, before = [len(question) for question in questions], positions_taken(prefixes.next_position)
        taken = [before[row] + words for row, words in zip(own, said, strict=True)]
        self._write(batch, new, prefixes.record, own, said, taken)

    def _inputs(self, ids: list[list[int]], media: list[list[Media]]) -> dict[str, Tensor]:
        """Return the model's inputs, after passing their tiles to the session."""
        self.session.show([tile for own in media for medium in own for tile in medium.tiles])
        return self.loaded.preprocessor.pad_batch(ids, media, self.loaded.device, self.loaded.model.dtype)

    def _write(
        self, batch: list[Prompt], new: Tensor, record: Any, rows: list[int], said: list[int], taken: list[int]
    ) -> None:
        samples, media = [prompt.sample for prompt in batch], [self.images[prompt.sample] for prompt in batch]
        answers = without_filler(self.loaded, new, [prompt.ids for prompt in batch])
        self.answers.write(samples, media, answers, record, rows, said, taken)
        self.advance(len(batch))


def load_models(plan: Plan, resources: Resources) -> tuple[LoadedModel, TextRelevance | None]:
    """Return the model, loaded unless it was the last one, and the CLIP text tower if the method reads questions.

    Raises UserError for damage, and if the checkpoint's files are not those that were planned with.
    """
    checkpoint = plan.checkpoint
    if resources.model is None or resources.model_key != plan.model_key:
        resources.model = None  # first, so that two large models are never in memory together
        if checkpoint.folder and with_identity(replace(checkpoint, identity="")).identity != checkpoint.identity:
            raise UserError(
                f"model.path={checkpoint.source}: its files changed after the run was planned; run it again"
            )
        resources.model = loading.load(checkpoint, plan.config.model, plan.dtype, plan.device)
        resources.model_key = plan.model_key
    return resources.model, None if plan.text_tower is None else load_text_tower(plan.text_tower, plan.device)


def make_evaluation(
    plan: Plan,
    loaded: LoadedModel,
    text_tower: TextRelevance | None,
    directory: RunDirectory,
    advance: Callable[[int], None],
) -> Evaluation:
    """Return the evaluation that answers the plan's questions into `directory`. advance: gets the number just done."""
    takes_video = loaded.preprocessor.takes_video and plan.samples[0].media == "video"
    directory.prompt_template = loaded.preprocessor.prompts.template("video" if takes_video else "image")
    directory.first_sample = plan.samples[0].id
    session = Session(loaded.adapter, plan.method, text_tower=text_tower, features=feature_store(plan, loaded))
    return Evaluation(plan.benchmark, loaded, session, directory, advance, evaluation_settings(plan.config))


def feature_store(plan: Plan, loaded: LoadedModel) -> EncodingStore | None:
    """Return the model's store of encodings, shared by all runs of the process; None if it is off or not supported."""
    wanted = plan.config.features
    if not loaded.adapter.encodes_tiles_apart or (wanted.memory_mb == 0 and wanted.folder is None):
        return None
    folder = None
    if wanted.folder is not None:
        model = plan.config.model
        weights = [plan.checkpoint.identity, str(plan.dtype), model.quantization]
        same = [*weights, model.attention, loaded.device.type, versions()]
        folder = Path(wanted.folder) / data_hash(same)[:16]
    memory = wanted.memory_mb * 2**20
    if loaded.features is None or (loaded.features.memory, loaded.features.folder) != (memory, folder):
        try:
            loaded.features = EncodingStore(memory, folder)
        except OSError as error:
            raise UserError(f"features.folder={wanted.folder}: cannot be used ({error})") from error
    return loaded.features


def evaluation_settings(config: RunConfig) -> EvaluationSettings:
    """Return the settings of the evaluation from those of the run."""
    skip_bad = config.on_bad_sample == "skip"
    return EvaluationSettings(
        config.batch_size, config.share_prefix, config.compile, skip_bad, config.names["benchmark"]
    )
