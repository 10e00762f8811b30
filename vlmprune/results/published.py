"""Published figures of papers and their repositories: published.csv, one per line, as printed there.

docs/published.md explains its columns and its cautions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

# Metrics of result.json that are also published, with the factor from our value to the published scale.
POINTS = ("perception", "cognition", "total", "ocrbench", "rating")
PERCENT = ("accuracy", "vqa_accuracy", "relaxed_accuracy", "anls", "f1", "cider", "score", "relative_score")
PRINTED = dict.fromkeys(POINTS, 1.0) | dict.fromkeys(PERCENT, 100.0)
# Numbers of questions in the files that LLaVA's scripts, and later FasterVLM's and others', read, if the hub's differ:
# mmbench_dev_20230712.tsv, and POPE at commit e3e3926 with 2,910 random ones.
QUESTIONS = {"mmbench": 4377, "pope": 8910}
SCHEDULES = {"method.retain", "method.layer_ratio"}  # settings that replace a ratio


@dataclass(frozen=True)
class Published:
    """One line of published.csv; the fields are its columns. ratio, tokens: None if unknown."""

    source: str
    table: str
    model: str
    method: str
    variant: str
    ratio: float | None
    tokens: int | None
    benchmark: str
    metric: str
    value: float
    our_model: str
    our_method: str
    our_settings: str
    our_benchmark: str
    protocol: str
    caution: str

    @property
    def table_key(self) -> tuple[str, ...]:
        """The key that a figure shares with the unpruned figure of its table."""
        return (self.source, self.table, self.model, self.benchmark, self.metric)

    @property
    def key(self) -> tuple[object, ...]:
        """A unique key of the line."""
        return (*self.table_key, self.method, self.variant, self.ratio, self.tokens)

    @property
    def place(self) -> str:
        """The short source: repository and file name."""
        repository, _, file = self.source.partition(": ")
        return f"{repository.split()[0]} {file.split(' (')[0].rsplit('/', 1)[-1]}"

    @property
    def settings(self) -> dict[str, str]:
        """Settings, beside model, method and benchmark, of the matching run: 'method.k' -> '2'."""
        return dict(setting.split("=", 1) for setting in self.our_settings.split())

    @property
    def scheduled(self) -> bool:
        """True if a setting of the method, and not a ratio, determines the number of kept tokens."""
        return bool(SCHEDULES & self.settings.keys())

    @property
    def comparable(self) -> bool:
        """True if a run of ours can be compared with it: model, method, benchmark, metric and budget are known."""
        ours = self.our_model and self.our_method and self.our_benchmark
        known = self.ratio is not None or self.tokens is not None or self.scheduled
        return bool(ours) and known and self.metric in PRINTED

    @property
    def questions(self) -> int | None:
        """The number of questions behind the figure if the hub's dataset has another number, else None."""
        return QUESTIONS.get(self.our_benchmark)

    @property
    def command(self) -> str:
        """The command that makes the matching run."""
        words = [f"model={self.our_model}", f"benchmark={self.our_benchmark}", f"method={self.our_method}"]
        if self.our_method != "none" and not self.scheduled:
            words.append(f"keep={self.tokens}" if self.ratio is None else f"ratio={self.ratio:g}")
        return " ".join(["vlmprune run", *words, *self.our_settings.split()])


def read_published() -> list[Published]:
    """Read all lines of published.csv."""
    with (files("vlmprune.report") / "published.csv").open(encoding="utf-8") as lines:
        return [_published(line) for line in csv.DictReader(lines)]


def _published(line: dict[str, str]) -> Published:
    numbers = {
        "ratio": float(line["ratio"]) if line["ratio"] else None,
        "tokens": int(line["tokens"]) if line["tokens"] else None,
        "value": float(line["value"]),
    }
    return Published(**{**line, **numbers})  # type: ignore[arg-type]  # the header names the fields
