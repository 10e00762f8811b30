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
from vlmprune.benchmarks.scoring.exact import as_digits, exact_match
from vlmprune.benchmarks.scoring.metric import Metric

LETTERS = string.ascii_uppercase
LETTERED = re.compile(r"^\(?[A-H][.):]\s*")  # options that already carry their letter


@dataclass
class MultipleChoice(HubBenchmark):
    """Roles beside the common ones: choices (a list, or one column per option) and index.

    answer_is: how the role `answer` names the right option: its letter, its index from 0 or its text.
    "letter_or_text" takes what names one option alone. heading: written before the options. option: how one is written.
    average: over questions, over categories (each weighs the same) or circular (MMBench's CircularEval, by the role
    `index`). Where the data have no role `choices` the question lists them itself, and an answer of one letter is the
    right one's; any other is compared as text, "three" being 3.
    """

    answer_is: Literal["letter", "index", "text", "letter_or_text"] = "letter"
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
        """The right option's letter; what the data say where they have no choices. Raises BadSample."""
        text, choices = str(self.value(row, "answer")).strip(), self.choices(row)
        if not choices:
            return text
        named = named_options(text, choices, self.answer_is)
        if len(named) != 1:
            raise BadSample(
                f"its answer '{text}' is the {self.answer_is.replace('_', ' ')} of {'several' if named else 'none'} of "
                f"its {len(choices)} choices (benchmark.answer_is={self.answer_is}; others: letter, index, text)"
            )
        return named.pop()

    def group(self, row: dict[str, Any]) -> str:
        if self.average != "circular":
            return ""
        index = str(self.value(row, "index"))
        if not index.isdecimal():
            raise BadSample(f"its index {index} is no number, which average=circular needs")
        return str(circular.question_of(index))

    def prompt(self, sample: Sample) -> str:
        return self.prefix + sample.question + self.options(sample) + self.suffix

    def options(self, sample: Sample) -> str:
        """The options as they stand under the question, a line each."""
        listed = zip(LETTERS, sample.extra["choices"], strict=False)
        lines = "".join(self.option.format(letter=letter, choice=choice) for letter, choice in listed)
        return f"\n{self.heading}{lines.rstrip()}" if lines else ""

    def match(self, prediction: str, sample: Sample) -> float:
        choices = sample.extra["choices"]
        if choices or is_letter(sample.answer):
            return choice_match(prediction, sample.answer, choices or [""] * 8)
        return exact_match(as_digits(prediction), as_digits(sample.answer))

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        if self.average == "questions":
            return super().aggregate(rows)
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


def named_options(text: str, choices: list[str], answer_is: str) -> set[str]:
    """Letters of the options that a stored answer names. answer_is: as in `MultipleChoice`."""
    valid = LETTERS[: len(choices)]
    by_letter = {text.upper()} if is_letter(text) and text.upper() in valid else set()
    same = (text, LETTERED.sub("", text))
    by_text = {letter for letter, choice in zip(valid, choices, strict=True) if choice.strip() in same}
    if answer_is == "letter":
        return by_letter
    if answer_is == "index":
        return {valid[int(text)]} if text.isdecimal() and int(text) < len(choices) else set()
    # The official scorers take the first of two equal options.
    return set(sorted(by_text)[:1]) if answer_is == "text" else by_letter | by_text


def is_letter(answer: str) -> bool:
    """Whether an answer is one letter of the alphabet."""
    return len(answer) == 1 and answer.upper() in LETTERS


@dataclass
class HintedChoice(MultipleChoice):
    """The hint, where a question has one, stands before it. hint: how it is written (ScienceQA, MMBench)."""

    hint: str = "{hint} "

    def question(self, row: dict[str, Any]) -> str:
        hint = self.value(row, "hint")
        written = self.hint.format(hint=hint) if hint and str(hint) != "nan" else ""
        return written + super().question(row)
