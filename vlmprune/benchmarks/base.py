"""What a benchmark is: samples with their images or video frames, a prompt, a score per answer, metrics of the set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Protocol
from vlmprune.schema import check_bounds

if TYPE_CHECKING:
    from PIL.Image import Image

Orientation = Literal["upright", "stored"]  # of a picture: turned as its file says, or pixels as they lie there

ACCURACY = Metric("accuracy", 0.0, 1.0, True)


class BadSample(Exception):
    """One sample cannot be used: an image that is missing or corrupt, a value that is absent. The message says why."""


@dataclass(frozen=True)
class Sample:
    """One question about one or several images or about one video.

    All fields but `extra` are text (str). id: not empty, no other sample's. image_id: not empty, the same for all
    questions about the same media, which is what intervals are clustered by. answer: the reference answer, "" where the
    split has none. extra: what scoring needs beside it (annotators' answers, choices, official ids), a dict of plain
    data, without nan, that goes into predictions.jsonl. group: the same for questions that are only scored
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

    What a class outside vlmprune gives is checked at each call (contract.py): another type or range than is said here
    is refused in one line. What its code raises ends the run with the user's part of the traceback, exit code 1, and
    the name of the sample; what is answered is kept. BadSample alone, and an OSError of `images`, is a broken sample,
    which obeys `on_bad_sample`.

    prefix, suffix: put before and after every question, as published. max_new_tokens: cap of the generated answer.
    orientation: how pictures and frames are turned, the run's setting of that name.
    """

    max_new_tokens: Annotated[int, Interval(ge=1, le=1_000_000)]
    prefix: str = ""
    suffix: str = ""
    orientation: Orientation = field(default="upright", init=False)

    metric: ClassVar[Metric] = ACCURACY  # the main metric: a key of what `summarise` returns
    protocol: ClassVar[Protocol | None] = None  # how a language model is asked to judge the answers, if one is
    turned: ClassVar[bool] = True  # whether the file of a picture may say that it is turned
    resampled: ClassVar[bool] = True  # whether the main metric of a random choice of images estimates that of all

    def __post_init__(self) -> None:
        check_bounds(self)

    def load(self, part: bool = False) -> list[Sample]:
        """All samples, at least one, those about the same media adjacent; a generator will do.

        Raises UserError where the data cannot be had.

        part: only a subset will be asked, so that large data are better read in place than downloaded.
        """
        raise NotImplementedError

    def images(self, sample: Sample) -> list[Image]:
        """The sample's images or video frames in order, RGB of PIL. Raises BadSample where one cannot be decoded.

        A generator will do, and of a user's class other modes are converted: transparency to white.
        """
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
        """What fixes the data: a content hash or a revision, text that is not empty."""
        raise NotImplementedError

    def data_name(self) -> str:
        """Return what tells these data by name from others of the same choice; "" where there is one set of them.

        It is part of a folder's name: up to 100 characters, without a slash.
        """
        return ""

    def prompt(self, sample: Sample) -> str:
        """The question as the model is asked it."""
        return self.prefix + sample.question + self.suffix

    def score(self, prediction: str, sample: Sample) -> float | None:
        """Score of one answer, 0..1; None where the split has no answers, or where a judge or the whole set decides.

        A finite number of 0 or more, also a scalar of numpy or torch, or True and False.
        """
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
        """Metrics of a set whose lines all have their score: their mean, where a subclass has no other.

        Finite numbers by name, `metric.name` among them.
        """
        return {self.metric.name: sum(row["score"] for row in rows) / len(rows)}

    def submission_file(self, rows: list[dict[str, Any]]) -> tuple[str, bytes] | None:
        """Name and content of the file that the authors' server takes; None where there is no such server.

        The name is that of a file of its own in the run's directory.
        """
        return None

    def units(self, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]] | None:
        """Scores whose plain mean is the main score, and the image of each; None where it is no mean of anything.

        Two lists of one length: finite numbers, text.
        """
        return [row["score"] for row in rows], [row["image_id"] for row in rows]

    def main_score(self, metrics: dict[str, float]) -> float | None:
        """The main metric as it is compared: a fraction of 1 where it has a natural maximum; None while unknown.

        Finite, 0 or more.
        """
        return metrics.get(self.metric.name)
