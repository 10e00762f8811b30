"""What a benchmark is: questions about images as a `datasets` Dataset, a prompt suffix and a score per answer."""

from __future__ import annotations

import os
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

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}; allowed: 1 or more")

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


def subset(samples: list[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples, in the dataset's order: a random choice that is the same for every method and seed."""
    import random

    if limit is None or limit >= len(samples):
        return samples
    chosen = set(random.Random(0).sample(range(len(samples)), limit))
    return [sample for index, sample in enumerate(samples) if index in chosen]


def content_hash(*tables: datasets.Dataset) -> str:
    """sha256 over every row of every table, images as their encoded bytes: the same data anywhere, and no other."""
    import hashlib

    import datasets as hf_datasets

    digest = hashlib.sha256()
    for table in tables:
        for name, feature in table.features.items():
            if isinstance(feature, hf_datasets.Image):
                table = table.cast_column(name, hf_datasets.Image(decode=False))
        for row in table:
            for value in row.values():
                raw = value["bytes"] if isinstance(value, dict) and value.get("bytes") else str(value).encode()
                digest.update(len(raw).to_bytes(8, "big") + raw)
    return f"sha256:{digest.hexdigest()}"


def load_hub_dataset(path: str, fallback: str, config: str, split: str) -> datasets.Dataset:
    """A hub dataset or a local copy of it; one clear error where neither can be reached."""
    import datasets as hf_datasets

    from vlmprune.errors import UserError

    reasons = []
    for source in (path, fallback):
        try:
            # datasets' cache does not notice that a local file was rewritten, so a folder is read afresh.
            mode = "force_redownload" if os.path.isdir(source) else "reuse_dataset_if_exists"
            return hf_datasets.load_dataset(source, config, split=split, download_mode=mode)
        except (ConnectionError, OSError, ValueError) as error:
            reasons.append(f"{source}: {' '.join(str(error).split())[:160]}")
    raise UserError(
        f"benchmark data cannot be loaded ({'; '.join(reasons)}). With network, check the hub; without, download it "
        "elsewhere and set benchmark.path=/folder"
    )
