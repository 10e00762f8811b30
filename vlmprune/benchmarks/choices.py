"""Multiple choice: the options are listed under the question and the answer is one's letter."""

from __future__ import annotations

import ast
import re
import string
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import circular, grouped
from vlmprune.benchmarks.scoring.choices import METRIC, choice_match
from vlmprune.benchmarks.scoring.exact import exact_match
from vlmprune.benchmarks.scoring.metric import Metric

LETTERS = string.ascii_uppercase
LETTERED = re.compile(r"^\(?[A-H][.):]\s*")  # options that already carry their letter


@dataclass
class MultipleChoice(HubBenchmark):
    """Roles beside the common ones: choices (a list, or one column per option) and index.

    heading: written before the options. option: how one is written. average: over questions, over categories (each
    weighs the same) or circular (MMBench's CircularEval, by the role `index`). Where the data have no role `choices`
    the question lists them itself; an answer that is no letter is then compared as text.
    """

    heading: str = ""
    option: str = "{letter}. {choice}\n"
    average: Literal["questions", "categories", "circular"] = "questions"

    metric: ClassVar[Metric] = METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        index = self.value(row, "index")
        own = {"choices": self.choices(row)} | ({} if index is None else {"index": index})
        return super().extra(row) | own

    def choices(self, row: dict[str, Any]) -> list[str]:
        """The options' texts without letters; [] where the question lists them itself."""
        value = self.value(row, "choices")
        if isinstance(value, str):  # a list written as text
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError) as error:
                raise BadSample(f"its choices are not a list: {value[:60]}") from error
        options = [str(choice) for choice in value or [] if choice is not None]
        lettered = all(LETTERED.match(option) for option in options)
        return [LETTERED.sub("", option) if lettered else option for option in options]

    def answer(self, row: dict[str, Any]) -> str:
        """The right option's letter; stored as a letter, as an index from 0 or as the option's text."""
        value, choices = self.value(row, "answer"), self.choices(row)
        text = str(value).strip()
        if not choices or (len(text) == 1 and text.upper() in LETTERS[: len(choices)]):
            return text
        if text in choices:
            return LETTERS[choices.index(text)]
        if text.isdigit() and int(text) < len(choices):
            return LETTERS[int(text)]
        raise BadSample(f"its answer '{text}' is none of its {len(choices)} choices")

    def prompt(self, sample: Sample) -> str:
        return self.prefix + sample.question + self.options(sample) + self.suffix

    def options(self, sample: Sample) -> str:
        """The options as they stand under the question, a line each."""
        listed = zip(LETTERS, sample.extra["choices"], strict=False)
        lines = "".join(self.option.format(letter=letter, choice=choice) for letter, choice in listed)
        return f"\n{self.heading}{lines.rstrip()}" if lines else ""

    def score(self, prediction: str, sample: Sample) -> float | None:
        if not sample.answer:
            return None
        choices = sample.extra["choices"]
        if not choices and len(sample.answer) > 1:
            return exact_match(prediction, sample.answer)
        return choice_match(prediction, sample.answer, choices or [""] * 8)

    def summarise(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        if self.average == "questions" or any(row["score"] is None for row in rows):
            return super().summarise(rows)
        return circular.summarise(rows) if self.average == "circular" else grouped.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]] | None:
        if self.average == "circular":
            worst: dict[int, float] = {}
            image: dict[int, str] = {}
            for row in rows:
                question = circular.question(row)
                worst[question] = min(row["score"], worst.get(question, 1.0))
                image[question] = row["image_id"]
            return list(worst.values()), [image[question] for question in worst]
        return super().units(rows) if self.average == "questions" else None


@dataclass
class HintedChoice(MultipleChoice):
    """The hint, where a question has one, stands before it. hint: how it is written (ScienceQA, MMBench)."""

    hint: str = "{hint} "

    def question(self, row: dict[str, Any]) -> str:
        hint = self.value(row, "hint")
        written = self.hint.format(hint=hint) if hint and str(hint) != "nan" else ""
        return written + super().question(row)
