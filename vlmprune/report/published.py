"""What papers and their repositories published: published.csv, one figure a line, as printed there.

docs/published.md explains its columns and its cautions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

# Metrics of result.json that are also published, and what turns ours into the scale in which they are printed.
POINTS = ("perception", "cognition", "total", "ocrbench", "rating")
PERCENT = ("accuracy", "vqa_accuracy", "relaxed_accuracy", "anls", "f1", "cider", "score", "relative_score")
PRINTED = dict.fromkeys(POINTS, 1.0) | dict.fromkeys(PERCENT, 100.0)
# Questions in the files that LLaVA's scripts, and FasterVLM's and others' after them, read, where the hub has others:
# mmbench_dev_20230712.tsv, and POPE at commit e3e3926 with 2,910 random ones.
QUESTIONS = {"mmbench": 4377, "pope": 8910}
SCHEDULES = {"method.retain", "method.layer_ratio"}  # settings that stand for a ratio


@dataclass(frozen=True)
class Published:
    """One line of published.csv, whose columns these are; ratio and tokens None where they are not known."""

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
        """What a figure shares with the unpruned one that it is relative to."""
        return (self.source, self.table, self.model, self.benchmark, self.metric)

    @property
    def key(self) -> tuple[object, ...]:
        """What no two lines share."""
        return (*self.table_key, self.method, self.variant, self.ratio, self.tokens)

    @property
    def place(self) -> str:
        """Source in short: repository and name of the file."""
        repository, _, file = self.source.partition(": ")
        return f"{repository.split()[0]} {file.split(' (')[0].rsplit('/', 1)[-1]}"

    @property
    def settings(self) -> dict[str, str]:
        """Our settings that make it the same thing, beside the choices: 'method.k' -> '2'."""
        return dict(setting.split("=", 1) for setting in self.our_settings.split())

    @property
    def scheduled(self) -> bool:
        """Whether a setting of the method says how many tokens stay, and no ratio."""
        return bool(SCHEDULES & self.settings.keys())

    @property
    def comparable(self) -> bool:
        """Whether a run of ours can stand beside it: a score, of choices that we have, at a known budget."""
        ours = self.our_model and self.our_method and self.our_benchmark
        known = self.ratio is not None or self.tokens is not None or self.scheduled
        return bool(ours) and known and self.metric in PRINTED

    @property
    def questions(self) -> int | None:
        """How many it is about, where the hub's dataset has another number; else None."""
        return QUESTIONS.get(self.our_benchmark)

    @property
    def command(self) -> str:
        """How to make the run of ours that would stand beside it."""
        words = [f"model={self.our_model}", f"benchmark={self.our_benchmark}", f"method={self.our_method}"]
        if self.our_method != "none" and not self.scheduled:
            words.append(f"keep={self.tokens}" if self.ratio is None else f"ratio={self.ratio:g}")
        return " ".join(["vlmprune run", *words, *self.our_settings.split()])


def read_published() -> list[Published]:
    """All lines of published.csv."""
    with (files("vlmprune.report") / "published.csv").open(encoding="utf-8") as lines:
        return [_published(line) for line in csv.DictReader(lines)]


def _published(line: dict[str, str]) -> Published:
    numbers = {
        "ratio": float(line["ratio"]) if line["ratio"] else None,
        "tokens": int(line["tokens"]) if line["tokens"] else None,
        "value": float(line["value"]),
    }
    return Published(**{**line, **numbers})  # type: ignore[arg-type]  # the header names the fields
