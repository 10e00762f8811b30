"""Questions with several accepted answers, which scoring needs all of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.hub import HubBenchmark


@dataclass
class AcceptedAnswers(HubBenchmark):
    """Base: the role `answer` is one or several answers, of annotators or captioners; extra["answers"] has them all."""

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"answers": texts(self.value(row, "answer"))}
