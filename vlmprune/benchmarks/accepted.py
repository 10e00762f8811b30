"""Questions with several accepted answers, which scoring needs all of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.hub import HubBenchmark


@dataclass
class AcceptedAnswers(HubBenchmark):
    """Base: the role `answer` is one or several answers, of annotators or captioners; extra["answers"] has them all
    but the empty ones, which an empty prediction would agree with."""

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = texts(self.value(row, "answer"))
        return super().extra(row) | {"answers": [answer for answer in answers if answer.strip()]}
