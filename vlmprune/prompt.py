"""A benchmark's questions as token ids, and how much of them questions about one image have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.measure.positions import position_limit
from vlmprune.media_cache import Images
from vlmprune.models.inputs import Media
from vlmprune.models.loading import Loaded
from vlmprune.models.prompts import place_media
from vlmprune.pruning.prefix import beginning

BEYOND = 8  # times the decoder's positions; that many words are no question, and take minutes to go through


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
    visual = loaded.adapter.visual_mask(torch.tensor(ids))
    limit, words = position_limit(loaded.adapter.config.text_config), int((~visual).sum())
    if limit is not None and words > BEYOND * limit:
        raise BadSample(f"its prompt has {words:,} tokens of text; the decoder was made for {limit:,} positions")
    shared = beginning(visual)
    return Prompt(sample, ids, media, tuple(order), min(shared, len(ids) - 1))
