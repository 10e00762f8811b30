"""A benchmark's questions as token ids, and how much of them questions about one image have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.media_cache import Images
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.models.prompts import place_media
from vlmprune.pruning.prefix import beginning


@dataclass(frozen=True)
class Prompt:
    """A question with its whole prompt.

    media: in the order in which they stand in it. order: the place of each among the sample's own. shared: how many of
    its ids other questions about the image begin with.
    """

    sample: Sample
    ids: list[int]
    media: list[Media]
    order: tuple[int, ...]
    shared: int

    @property
    def beginning(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """The same for prompts that share it: placeholders look alike, whichever picture stands there."""
        return self.sample.image_id, self.order, tuple(self.ids[: self.shared])

    @property
    def question(self) -> list[int]:
        """What is left of the prompt after the shared beginning."""
        return self.ids[self.shared :]


def read_prompts(samples: list[Sample], benchmark: Benchmark, loaded: Loaded, images: Images) -> list[Prompt]:
    """The prompts of `samples`, whose media can all be had."""
    if not samples:
        return []
    questions = [benchmark.prompt(sample) for sample in samples]
    given = [images[sample] for sample in samples]
    ids, media = loaded.preprocessor.tokenize(questions, given)
    prompts = []
    for sample, question, pictures, own, shown in zip(samples, questions, given, ids, media, strict=True):
        order, _ = place_media(question, [medium.kind for medium in pictures])
        shared = beginning(loaded.adapter.visual_mask(torch.tensor(own)))
        prompts.append(Prompt(sample, own, shown, tuple(order), min(shared, len(own) - 1)))
    return prompts
