"""MMMU (Yue et al., CVPR 2024), validation: college-level questions with up to seven images, some without choices."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.scoring.open_answers import open_match

MARKER = re.compile(r"<image (\d+)>")


@dataclass
class Mmmu(MultipleChoice):
    """MMMU. "<image 2>" in a question or an option is replaced by the second image. Subjects are the categories.

    open_suffix: text after the questions without choices.
    """

    open_suffix: str = ""

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        # "validation_Art_Theory_3" -> "Art_Theory"
        subject = "_".join(sample_id.split("_")[1:-1]) or sample.category
        return Sample(**(vars(sample) | {"category": subject}))

    def value(self, row: dict[str, Any], role: str) -> Any:
        value = super().value(row, role)
        return None if role == "answer" and value == "?" else value  # the test split's placeholder

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"answers": accepted(self.value(row, "answer"))}

    def prompt(self, sample: Sample) -> str:
        text = super().prompt(sample) if sample.extra["choices"] else self.prefix + sample.question + self.open_suffix
        return renumbered(text, list(self.image_cells(sample.id))) if MARKER.search(text) else text

    def match(self, prediction: str, sample: Sample) -> float:
        if sample.extra["choices"]:
            return super().match(prediction, sample)
        return open_match(prediction, sample.extra["answers"])


def renumbered(text: str, columns: list[int]) -> str:
    """Return the text with each marker "<image 3>" numbered by column 3's rank among the row's images.

    columns: numbers of the columns that are not empty. The marker of an empty column 2 becomes the text "image 2".
    """

    def place(marker: re.Match[str]) -> str:
        number = int(marker[1])
        return f"<image {columns.index(number) + 1}>" if number in columns else f"image {number}"

    return MARKER.sub(place, text)


def accepted(value: Any) -> list[str]:
    """Return the accepted answers of an open question; the dataset writes several as a Python list."""
    text = "" if value is None else str(value)
    if text.startswith("[") and text.endswith("]"):
        try:
            return texts(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return [text]
    return texts(value)
