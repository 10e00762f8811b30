"""Base class of questions with several accepted answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.hub import HubBenchmark


@dataclass
class AcceptedAnswers(HubBenchmark):
    """Base of benchmarks whose role `answer` holds one or several answers, of annotators or captioners.

    extra["answers"] holds all of them except blank ones, which an empty prediction would match.
    """

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = texts(self.value(row, "answer"))
        return super().extra(row) | {"answers": [answer for answer in answers if answer.strip()]}
