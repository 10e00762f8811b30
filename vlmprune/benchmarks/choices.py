"""Multiple choice: the options are listed under the question, and the answer is the letter of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.columns import field_of, present, shown
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.options import LETTERS, is_letter, named_options, read_options
from vlmprune.benchmarks.scoring import circular, grouped
from vlmprune.benchmarks.scoring.choices import METRIC, choice_match
from vlmprune.benchmarks.scoring.exact import as_digits, exact_match
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.schema import check_template


@dataclass
class MultipleChoice(HubBenchmark):
    """Multiple choice, with two more roles: choices (a list, or one column per option) and index.

    answer_is: form of the role `answer`: the right option's letter, its index from 0 or its text. "letter_or_text"
    takes both, if they name one option alone. heading: text before the options. option: template of an option.
    average: over questions, over categories (all of the same weight) or circular (MMBench's CircularEval, by the role
    `index`). If the data have no role `choices`, the question lists the options itself: an answer of one letter is then
    the right option's, and any other is compared as text, "three" being 3.
    """

    answer_is: Literal["letter", "index", "text", "letter_or_text"] = "letter"
    heading: str = ""
    option: str = "{letter}. {choice}\n"
    average: Literal["questions", "categories", "circular"] = "questions"

    metric: ClassVar[Metric] = METRIC

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("benchmark.option", self.option, ("letter", "choice"))

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        index = self.value(row, "index")
        own = {"choices": self.choices(row)} | ({} if index is None else {"index": index})
        return super().extra(row) | own

    def value(self, row: dict[str, Any], role: str) -> Any:
        value = super().value(row, role)
        # A missing letter or index may be written as text, such as "nan"; an option may have that very text.
        if role == "answer" and self.answer_is in ("letter", "index") and str(value).strip().lower() in self.missing:
            return None
        return value

    def choices(self, row: dict[str, Any]) -> list[str]:
        """Return the options' texts without letters, "" for a missing one; [] if the question lists them itself.

        If each option is a column, the one that the answer names counts as an option whatever its text: MMBench writes
        "none" for a missing option, but it may be the right one's text.
        """
        value, named = self.value(row, "choices"), self.columns.get("choices")
        if isinstance(named, list):
            stored = [field_of(row, column) for column in named]
            texts = [shown(cell) if present(cell) else "" for cell in stored]
            right = named_options(self._answer(row), texts, self.answer_is)
            value = [stored[k] if LETTERS[k] in right else given for k, given in enumerate(value)]
        options = read_options(value, self.answer_is)
        return [option.strip() for option in options] if self.strip else options

    def _answer(self, row: dict[str, Any]) -> str:
        answer = self.value(row, "answer")
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        return "" if answer is None else shown(answer).strip()

    def answer(self, row: dict[str, Any]) -> str:
        """Return the right option's letter, or the stored answer if the data have no choices. Raises BadSample."""
        text, choices = self._answer(row), self.choices(row)
        if not choices:
            return super().answer(row).strip()
        named = named_options(text, choices, self.answer_is)
        if len(named) != 1:
            raise BadSample(
                f"its answer '{text}' is the {self.answer_is.replace('_', ' ')} of {'several' if named else 'none'} of "
                f"its {sum(map(bool, choices))} choices (benchmark.answer_is={self.answer_is}; others: letter, index, "
                "text)"
            )
        return named.pop()

    def group(self, row: dict[str, Any]) -> str:
        if self.average != "circular":
            return ""
        index = shown(self.value(row, "index"))
        if not index.isdecimal():
            raise BadSample(f"its index {index} is no number, which average=circular needs")
        return str(circular.question_of(index))

    def prompt(self, sample: Sample) -> str:
        return self.prefix + sample.question + self.options(sample) + self.suffix

    def options(self, sample: Sample) -> str:
        """Return the options as text under the question, a line each; missing ones are left out."""
        listed = [(letter, choice) for letter, choice in zip(LETTERS, sample.extra["choices"], strict=False) if choice]
        lines = "".join(self.option.format(letter=letter, choice=choice) for letter, choice in listed)
        return f"\n{self.heading}{lines}".removesuffix("\n") if lines else ""

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


@dataclass
class HintedChoice(MultipleChoice):
    """Multiple choice with a hint before questions that have one (ScienceQA, MMBench). hint: template of the hint."""

    hint: str = "{hint} "

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("benchmark.hint", self.hint, ("hint",))

    def question(self, row: dict[str, Any]) -> str:
        hint = self.value(row, "hint")
        written = self.hint.format(hint=hint) if present(hint) else ""
        return written + super().question(row)
