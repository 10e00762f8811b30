"""A benchmark's questions as token ids, with the prefix that questions about one image share."""

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
    def beginning(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """Key of the shared prefix, with the image and the order of media, since placeholder ids do not name images."""
        return self.sample.image_id, self.order, tuple(self.ids[: self.shared])

    @property
    def question(self) -> list[int]:
        """Ids of the prompt after the shared prefix."""
        return self.ids[self.shared :]


def read_prompt(sample: Sample, benchmark: Benchmark, loaded: Loaded, images: Images) -> Prompt:
    """Return the prompt of a sample. Raise BadSample if the model cannot take its media or its text."""
    given = images[sample]  # before the question: a row that lacks it lacks its media too
    question = benchmark.prompt(sample)
    (ids,), (media,) = loaded.preprocessor.tokenize([question], [given])
    order, _ = place_media(question, [medium.kind for medium in given])
    visual = loaded.adapter.visual_mask(torch.tensor(ids))
    limit, words = position_limit(loaded.adapter.config.text_config), int((~visual).sum())
    if limit is not None and words > BEYOND * limit:
        raise BadSample(f"its prompt has {words:,} tokens of text; the decoder was made for {limit:,} positions")
    shared = beginning(visual)
    return Prompt(sample, ids, media, tuple(order), min(shared, len(ids) - 1))
