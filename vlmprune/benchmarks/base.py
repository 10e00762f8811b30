"""What a benchmark is: questions about images as a `datasets` Dataset, a prompt suffix and a score per answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import datasets
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One question about one image; `image_id` is shared by the questions about the same image."""

    id: str
    image_id: str
    question: str
    answer: str
    category: str


@dataclass
class Benchmark:
    """Base of all benchmarks. One YAML gives the fields; a subclass gives loading and scoring.

    suffix: appended to every question, as published. max_new_tokens: cap of the generated answer.
    """

    max_new_tokens: int
    suffix: str = ""

    metric: ClassVar[str]  # the main metric: mean of `score` over samples, 0..1, larger is better

    def load(self) -> list[Sample]:
        """All samples, those about one image adjacent. Raises UserError where the data cannot be had."""
        raise NotImplementedError

    def image(self, image_id: str) -> Image:
        """Decode one image, RGB."""
        raise NotImplementedError

    def identity(self) -> str:
        """What fixes the data: a content hash or a revision."""
        raise NotImplementedError

    def prompt(self, sample: Sample) -> str:
        """The question as the model is asked it."""
        return sample.question + self.suffix

    def score(self, prediction: str, sample: Sample) -> float:
        """Score of one answer, 0..1."""
        raise NotImplementedError


def subset(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` samples: a seeded choice, the same for every method, in the dataset's order."""
    import random

    if limit is None or limit >= len(samples):
        return samples
    chosen = set(random.Random(seed).sample(range(len(samples)), limit))
    return [sample for index, sample in enumerate(samples) if index in chosen]


def load_hub_dataset(path: str, fallback: str, config: str, split: str) -> datasets.Dataset:
    """A hub dataset or a local copy of it; one clear error where neither can be reached."""
    import datasets as hf_datasets

    from vlmprune.errors import UserError

    reasons = []
    for source in (path, fallback):
        try:
            return hf_datasets.load_dataset(source, config, split=split)
        except (ConnectionError, OSError, ValueError) as error:
            reasons.append(f"{source}: {' '.join(str(error).split())[:160]}")
    raise UserError(
        f"benchmark data cannot be loaded ({'; '.join(reasons)}). With network, check the hub; without, download it "
        "elsewhere and set benchmark.path=/folder"
    )
