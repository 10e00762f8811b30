"""Yes-or-no questions whose metrics are of the whole set: POPE and MME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.columns import joined
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import mme, pope
from vlmprune.benchmarks.scoring.metric import Metric


@dataclass
class Pope(HubBenchmark):
    """POPE (Li et al., EMNLP 2023): is the object in the image? The role `category` is random, popular, adversarial."""

    metric: ClassVar[Metric] = pope.METRIC

    def match(self, prediction: str, sample: Sample) -> float:
        return pope.score(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return pope.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None


@dataclass
class Mme(HubBenchmark):
    """MME (Fu et al., 2023): two questions about every image, the role `image_id` being what they share."""

    metric: ClassVar[Metric] = mme.METRIC

    def question(self, row: dict[str, Any]) -> str:
        # The published prompt asks for a single word instead.
        return super().question(row).replace(" Please answer yes or no.", "").strip()

    def group(self, row: dict[str, Any]) -> str:
        return joined(self.value(row, "image_id"))  # accuracy+ needs both questions

    def match(self, prediction: str, sample: Sample) -> float:
        return mme.score(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return mme.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest
