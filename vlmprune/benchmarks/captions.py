"""Image captions, scored as a set: COCO, NoCaps, Flickr30k."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.accepted import AcceptedAnswers
from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.scoring import captions
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.errors import UserError


@dataclass
class Captions(AcceptedAnswers):
    """Captions scored by CIDEr against several references, the role `answer`.

    A single caption has no score, because the weights of its n-grams come from the whole set.
    """

    metric: ClassVar[Metric] = captions.METRIC
    resampled: ClassVar[bool] = False
    required: ClassVar[tuple[str, ...]] = ("answer",)

    def load(self, part: bool = False) -> list[Sample]:
        if importlib.util.find_spec("pycocoevalcap") is None:  # else scoring would fail after all answers
            raise UserError("CIDEr needs pycocoevalcap: pip install 'vlmprune[captions]'")
        return super().load(part)

    def match(self, prediction: str, sample: Sample) -> None:
        return None

    def scorable(self, rows: list[dict[str, Any]]) -> bool:
        return all(row["answer"] for row in rows)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return captions.summarise(rows)

    def scoring_tools(self) -> dict[str, str]:
        return {"tokeniser": captions.tokeniser()}

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None
