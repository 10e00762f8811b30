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


def read_prompt(sample: Sample, benchmark: Benchmark, loaded: Loaded, images: Images) -> Prompt:
    """The prompt of a sample. Raises BadSample where its media or its text cannot be given to the model."""
    given = images[sample]  # which a row without a question does not have either
    question = benchmark.prompt(sample)
    (ids,), (media,) = loaded.preprocessor.tokenize([question], [given])
    order, _ = place_media(question, [medium.kind for medium in given])
    shared = beginning(loaded.adapter.visual_mask(torch.tensor(ids)))
    return Prompt(sample, ids, media, tuple(order), min(shared, len(ids) - 1))
