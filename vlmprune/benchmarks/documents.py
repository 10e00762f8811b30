"""Questions about documents, charts and text in scenes: DocVQA, InfographicVQA, ChartQA, OCRBench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.accepted import AcceptedAnswers
from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import anls, ocrbench, relaxed
from vlmprune.benchmarks.scoring.metric import Metric


@dataclass
class DocVqa(AcceptedAnswers):
    """DocVQA and InfographicVQA, scored by ANLS."""

    metric: ClassVar[Metric] = anls.METRIC

    def match(self, prediction: str, sample: Sample) -> float:
        return anls.anls(prediction, sample.extra["answers"])


@dataclass
class ChartQa(HubBenchmark):
    """ChartQA, scored by relaxed accuracy; human and augmented questions are the categories."""

    metric: ClassVar[Metric] = relaxed.METRIC

    def match(self, prediction: str, sample: Sample) -> float:
        return relaxed.relaxed_match(prediction, sample.answer)


@dataclass
class OcrBench(AcceptedAnswers):
    """OCRBench: 1,000 questions, scored by the number of right answers. Role `dataset`: the source of a question."""

    metric: ClassVar[Metric] = ocrbench.METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"dataset": str(self.value(row, "dataset") or "")}

    def match(self, prediction: str, sample: Sample) -> float:
        return ocrbench.contains_answer(prediction, sample.extra["answers"], sample.extra["dataset"])

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return ocrbench.summarise(rows)

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest
