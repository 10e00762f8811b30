"""Reading documents, charts and text in scenes: DocVQA, InfographicVQA, ChartQA, OCRBench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import anls, ocrbench, relaxed
from vlmprune.benchmarks.scoring.metric import Metric


@dataclass
class AcceptedAnswers(HubBenchmark):
    """Base: the role `answer` is one or several accepted answers."""

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"answers": texts(self.value(row, "answer"))}


@dataclass
class DocVqa(AcceptedAnswers):
    """DocVQA and InfographicVQA: ANLS."""

    metric: ClassVar[Metric] = anls.METRIC

    def score(self, prediction: str, sample: Sample) -> float | None:
        answers = sample.extra["answers"]
        return anls.anls(prediction, answers) if answers else None


@dataclass
class ChartQa(HubBenchmark):
    """ChartQA: relaxed accuracy; human and augmented questions are the categories."""

    metric: ClassVar[Metric] = relaxed.METRIC

    def score(self, prediction: str, sample: Sample) -> float:
        return relaxed.relaxed_match(prediction, sample.answer)


@dataclass
class OcrBench(AcceptedAnswers):
    """OCRBench: 1,000 questions, of which the number of right answers is the score. Role `dataset`: the source."""

    metric: ClassVar[Metric] = ocrbench.METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"dataset": str(self.value(row, "dataset") or "")}

    def score(self, prediction: str, sample: Sample) -> float:
        return ocrbench.contains_answer(prediction, sample.extra["answers"], sample.extra["dataset"])

    def summarise(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return ocrbench.summarise(rows)

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest
