"""What a benchmark is: samples with their images or video frames, a prompt, a score per answer, metrics of the set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

Orientation = Literal["upright", "stored"]  # of a picture: turned as its file says, or pixels as they lie there

ACCURACY = Metric("accuracy", 0.0, 1.0, True)


class BadSample(Exception):
    """One sample cannot be used: an image that is missing or corrupt, a value that is absent. The message says why."""


@dataclass(frozen=True)
class Sample:
    """One question about one or several images or about one video.

    image_id: the same for all questions about the same media, which is what intervals are clustered by. answer: the
    reference answer, "" where the split has none. extra: what scoring needs beside it (annotators' answers, choices,
    official ids), plain data that goes into predictions.jsonl. group: the same for questions that are only scored
    together, which a subset takes all or none of (subset.py); "" for one that stands alone.
    """

    id: str
    image_id: str
    question: str
    answer: str
    category: str
    media: Literal["image", "video"] = "image"
    extra: dict[str, Any] = field(default_factory=dict)
    group: str = ""


@dataclass
class Benchmark:
    """Base of all benchmarks. One YAML gives the fields; a subclass gives loading and scoring.

    prefix, suffix: put before and after every question, as published. max_new_tokens: cap of the generated answer.
    orientation: how pictures and frames are turned, the run's setting of that name.
    """

    max_new_tokens: int
    prefix: str = ""
    suffix: str = ""
    orientation: Orientation = field(default="upright", init=False)

    metric: ClassVar[Metric] = ACCURACY  # the main metric: a key of what `summarise` returns
    protocol: ClassVar[Protocol | None] = None  # how a language model is asked to judge the answers, if one is
    resampled: ClassVar[bool] = True  # whether the main metric of a random choice of images estimates that of all

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}; allowed: 1 or more")

    def load(self, part: bool = False) -> list[Sample]:
        """All samples, those about the same media adjacent. Raises UserError where the data cannot be had.

        part: only a subset will be asked, so that large data are better read in place than downloaded.
        """
        raise NotImplementedError

    def images(self, sample: Sample) -> list[Image]:
        """The sample's images or video frames in order, RGB. Raises BadSample where one cannot be decoded."""
        raise NotImplementedError

    def files(self, sample: Sample) -> list[str]:
        """Names of the files of the sample's media, as the data have them; none where those have no names."""
        return []

    def shares_media(self, sample: Sample) -> bool:
        """Whether `check_media` has something to compare: a column says that the sample's media are another's."""
        return False

    def check_media(self, sample: Sample) -> None:
        """Raise BadSample where the sample's media are not those of its image_id, whose work it would share."""

    def identity(self) -> str:
        """What fixes the data: a content hash or a revision."""
        raise NotImplementedError

    def data_name(self) -> str:
        """Return what tells these data by name from others of the same choice; "" where there is one set of them."""
        return ""

    def prompt(self, sample: Sample) -> str:
        """The question as the model is asked it."""
        return self.prefix + sample.question + self.suffix

    def score(self, prediction: str, sample: Sample) -> float | None:
        """Score of one answer, 0..1; None where the split has no answers, or where a judge or the whole set decides."""
        return None if self.protocol is not None or not sample.answer else self.match(prediction, sample)

    def match(self, prediction: str, sample: Sample) -> float | None:
        """How right an answer is whose reference is known, 0..1: what a subclass says. None: the whole set decides."""
        raise NotImplementedError

    def summarise(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Metrics of the set, by name, from lines of predictions.jsonl; {} where they cannot be scored (yet)."""
        return self.aggregate(rows) if self.scorable(rows) else {}

    def scorable(self, rows: list[dict[str, Any]]) -> bool:
        """Whether no line waits for a judge or lacks its reference answer."""
        return all(row["score"] is not None for row in rows)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Metrics of a set whose lines all have their score: their mean, where a subclass has no other."""
        return {self.metric.name: sum(row["score"] for row in rows) / len(rows)}

    def submission_file(self, rows: list[dict[str, Any]]) -> tuple[str, bytes] | None:
        """Name and content of the file that the authors' server takes; None where there is no such server."""
        return None

    def units(self, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]] | None:
        """Scores whose plain mean is the main score, and the image of each; None where it is no mean of anything."""
        return [row["score"] for row in rows], [row["image_id"] for row in rows]

    def main_score(self, metrics: dict[str, float]) -> float | None:
        """The main metric as it is compared: a fraction of 1 where it has a natural maximum; None while unknown."""
        return metrics.get(self.metric.name)
