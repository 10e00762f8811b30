"""MMMU (Yue et al., CVPR 2024), validation: college-level questions with up to seven images, some without choices."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.scoring.open_answers import open_match


@dataclass
class Mmmu(MultipleChoice):
    """ "<image 2>" in a question or an option is where the second image stands. Subjects are the categories.

    open_suffix: of the questions without choices.
    """

    open_suffix: str = ""

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        # "validation_Art_Theory_3" -> "Art_Theory"
        subject = "_".join(sample_id.split("_")[1:-1]) or sample.category
        return Sample(**(vars(sample) | {"category": subject}))

    def value(self, row: dict[str, Any], role: str) -> Any:
        value = super().value(row, role)
        return None if role == "answer" and value == "?" else value  # which the test split has in place of answers

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"answers": accepted(self.value(row, "answer"))}

    def prompt(self, sample: Sample) -> str:
        if sample.extra["choices"]:
            return super().prompt(sample)
        return self.prefix + sample.question + self.open_suffix

    def match(self, prediction: str, sample: Sample) -> float:
        if sample.extra["choices"]:
            return super().match(prediction, sample)
        return open_match(prediction, sample.extra["answers"])


def accepted(value: Any) -> list[str]:
    """Accepted answers of an open question; several are written as a Python list in the dataset."""
    text = str(value)
    if text.startswith("[") and text.endswith("]"):
        try:
            return texts(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return [text]
    return texts(value)
