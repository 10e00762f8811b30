"""Base class of benchmarks: samples with images or frames, prompts, scores per answer, metrics, judge protocols.

Description of a metric: its name, its range, and its better end.

Protocol of a judge: the messages that ask a language model to judge one answer, and the parser of its reply.

A judged benchmark declares it in its class, `protocol = mmvet.PROTOCOL`; its `score` gives None, and
`vlmprune score` fills in the judge's score.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from vlmprune.config.settings import Orientation
from vlmprune.config.typecheck import check_bounds

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Metric:
    """A named metric of a set of answers. lowest, highest: its range, in the scale in which it is reported."""

    name: str
    lowest: float = 0.0
    highest: float = 1.0
    higher_is_better: bool = True


NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"  # 7, 0.7, .7, 1e-1: neither nan nor 0,7 nor 1_0

Row = dict[str, Any]  # one line of predictions.jsonl
Messages = list[dict[str, str]]  # of an OpenAI-compatible chat: role and content


@dataclass(frozen=True)
class Protocol:
    """Protocol of a judge. name, version: part of every verdict's key, so that a changed prompt is asked again.

    messages: a prediction row -> the messages to the judge. parse: the judge's reply -> the verdict, plain numbers; its
    "score" (0..1) is the answer's score. Raises ValueError for a reply that is no verdict, which is then asked again.
    """

    name: str
    version: int
    messages: Callable[[Row], Messages]
    parse: Callable[[str], dict[str, float]]


def parse_number(name: str, text: str, lowest: float, highest: float) -> float:
    """Return the number that `text` is, apart from white space. Raises ValueError for other text or out of range.

    name: of the number, for the error.
    """
    if re.fullmatch(NUMBER, text.strip()) is None or not lowest <= float(text) <= highest:
        raise ValueError(f"{name} '{text.strip()[:40]}' is no number from {lowest:g} to {highest:g}")
    return abs(float(text)) if float(text) == 0 else float(text)  # "-0" is 0


def verdict_of(row: Row) -> dict[str, float]:
    """Return the judge's verdict on a row. Raises KeyError if it has not been asked."""
    return row["extra"]["verdict"]


ACCURACY = Metric("accuracy", 0.0, 1.0, True)


class BadSample(Exception):
    """Raised for a sample that cannot be used: an image is missing or corrupt, or a value is absent."""


@dataclass(frozen=True)
class Sample:
    """One question about one or several images or about one video.

    All fields except `extra` are text (str). id: not empty, unique. image_id: not empty, the same for all questions
    about the same media; intervals are clustered by it. answer: the reference answer, "" if the split has none.
    extra: other data that scoring needs (annotators' answers, choices, official ids), a dict of plain data without
    nan, which is written to predictions.jsonl. group: the same for questions that are only scored together, so that a
    subset takes all or none of them (config/subset.py); "" for a question that is scored alone.
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

    Values from a class outside vlmprune are checked at each call (contract.py): another type or range than documented
    here is refused in one line. An exception of its code ends the run with the user's part of the traceback, exit code
    1 and the name of the sample; answers so far are kept. Only BadSample, and an OSError of `images`, means a broken
    sample, which `on_bad_sample` decides about.

    prefix, suffix: text before and after every question, as published. max_new_tokens: limit of the generated answer.
    orientation: of pictures and frames, the run's setting of that name.
    """

    max_new_tokens: Annotated[int, Interval(ge=1, le=1_000_000)]
    prefix: str = ""
    suffix: str = ""
    orientation: Orientation = field(default="upright", init=False)

    metric: ClassVar[Metric] = ACCURACY  # the main metric: a key of what `summarise` returns
    protocol: ClassVar[Protocol | None] = None  # how a language model judges the answers; None: it does not
    turned: ClassVar[bool] = True  # a picture's file may say that it is turned
    resampled: ClassVar[bool] = True  # the main metric of a random choice of images estimates that of all

    def __post_init__(self) -> None:
        check_bounds(self)

    def load(self, part: bool = False) -> list[Sample]:
        """Return all samples, at least one, those about the same media adjacent; a generator is allowed.

        Raises UserError if the data cannot be loaded.

        part: True if only a subset will be asked, so that large data are better read in place than downloaded.
        """
        raise NotImplementedError

    def images(self, sample: Sample) -> list[Image]:
        """Return the sample's images or video frames in order, RGB of PIL. Raises BadSample if one cannot be decoded.

        A user's class may return a generator, and other modes, which are converted: transparency to white.
        """
        raise NotImplementedError

    def files(self, sample: Sample) -> list[str]:
        """Return the names of the files of the sample's media, as the data have them; [] if the media have no names."""
        return []

    def shares_media(self, sample: Sample) -> bool:
        """Return True if the data give this sample the media of another one, which `check_media` then compares."""
        return False

    def check_media(self, sample: Sample) -> None:
        """Raise BadSample if the sample's media are not those of its image_id, whose encoding it would share."""

    def identity(self) -> str:
        """Return the content hash or revision that identifies the data, text that is not empty."""
        raise NotImplementedError

    def data_name(self) -> str:
        """Return a name that tells these data from others of the same choice; "" if the choice has one set of data.

        It is part of a folder's name: up to 100 characters, without a slash.
        """
        return ""

    def prompt(self, sample: Sample) -> str:
        """Return the question as the model receives it."""
        return self.prefix + sample.question + self.suffix

    def score(self, prediction: str, sample: Sample) -> float | None:
        """Return the score of one answer, 0..1; None if the split has no answers, or a judge or the whole set decides.

        A finite number of 0 or more; a scalar of numpy or torch, True and False are allowed.
        """
        return None if self.protocol is not None or not sample.answer else self.match(prediction, sample)

    def match(self, prediction: str, sample: Sample) -> float | None:
        """Return the score of an answer whose reference is known, 0..1; None if the whole set decides."""
        raise NotImplementedError

    def summarise(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Return the metrics of the set by name, from lines of predictions.jsonl; {} if they cannot be scored (yet)."""
        return self.aggregate(rows) if self.scorable(rows) else {}

    def scorable(self, rows: list[dict[str, Any]]) -> bool:
        """Return True if every line can be scored: none waits for a judge or lacks its reference answer."""
        return all(row["score"] is not None for row in rows)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Return the metrics of a set whose lines all have their score: the mean, unless a subclass computes others.

        Finite numbers by name, `metric.name` among them.
        """
        return {self.metric.name: sum(row["score"] for row in rows) / len(rows)}

    def scoring_tools(self) -> dict[str, str]:
        """Return the other software that scores come from on this machine, by role; `compare` keeps runs with
        different tools apart."""
        return {}

    def submission_file(self, rows: list[dict[str, Any]]) -> tuple[str, bytes] | None:
        """Return name and content of the file that the authors' server takes; None if there is no such server.

        The name must differ from those of the other files in the run directory.
        """
        return None

    def units(self, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]] | None:
        """Return the scores whose plain mean is the main score, and the image_id of each; None if it is no such mean.

        Two lists of one length: finite numbers, text.
        """
        return [row["score"] for row in rows], [row["image_id"] for row in rows]

    def main_score(self, metrics: dict[str, float]) -> float | None:
        """Return the main metric for comparisons: a fraction of 1 if it has a natural maximum; None while unknown.

        Finite, 0 or more.
        """
        return metrics.get(self.metric.name)
