"""A benchmark's questions as token ids, and how much of them questions about one image have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.media_cache import Images
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.pruning.prefix import beginning


@dataclass(frozen=True)
class Prompt:
    """A question with its whole prompt. shared: how many of its ids other questions about the image begin with."""

    sample: Sample
    ids: list[int]
    media: list[Media]
    shared: int

    @property
    def beginning(self) -> tuple[str, tuple[int, ...]]:
        """The same for prompts that share it."""
        return self.sample.image_id, tuple(self.ids[: self.shared])

    @property
    def question(self) -> list[int]:
        """What is left of the prompt after the shared beginning."""
        return self.ids[self.shared :]


def read_prompts(samples: list[Sample], benchmark: Benchmark, loaded: Loaded, images: Images) -> list[Prompt]:
    """The prompts of `samples`, whose media can all be had."""
    if not samples:
        return []
    questions = [benchmark.prompt(sample) for sample in samples]
    ids, media = loaded.preprocessor.tokenize(questions, [images[sample] for sample in samples])
    prompts = []
    for sample, own, shown in zip(samples, ids, media, strict=True):
        shared = beginning(loaded.adapter.visual_mask(torch.tensor(own)))
        prompts.append(Prompt(sample, own, shown, min(shared, len(own) - 1)))
    return prompts
