"""NExT-QA (Xiao et al., CVPR 2021), open-ended: short answers about videos, scored by WUPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.scoring import wordnet, wups
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.video import VideoBenchmark


@dataclass
class NextQaOpen(VideoBenchmark):
    """Open-ended NExT-QA. Roles: category, the question's type (CW, DC, ...; some types need exact words), and
    other_answer, a second accepted answer, if there is one."""

    metric: ClassVar[Metric] = wups.METRIC

    def load(self, part: bool = False) -> list[Sample]:
        wordnet.load()  # else scoring the first answer would fail
        return super().load(part)

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = texts(self.value(row, "answer")) + texts(self.value(row, "other_answer"))
        return super().extra(row) | {"answers": [answer for answer in answers if answer]}

    def match(self, prediction: str, sample: Sample) -> float:
        return wups.score(prediction, sample.extra["answers"], sample.category, wordnet.load())
