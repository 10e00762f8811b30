"""Multiple-choice benchmarks, the options that their data store, and MMMU (Yue et al., CVPR 2024).

An option keeps the index, and so the letter, that it has in the data: a missing one is "" there.
"""

from __future__ import annotations

import ast
import json
import re
import string
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vlmprune.benchmarks.base import BadSample, Metric, Sample
from vlmprune.benchmarks.columns import answer_texts, has_value, read_field, scalar_text
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring.choices import (
    METRIC,
    choice_match,
    question_of_index,
    question_of_row,
    summarise_circular,
    summarise_grouped,
)
from vlmprune.benchmarks.scoring.open_answers import open_match
from vlmprune.benchmarks.scoring.text_match import as_digits, exact_match
from vlmprune.config.typecheck import check_template

LETTERS = string.ascii_uppercase
LETTERED = re.compile(r"^\(?([A-H])[.):]\s*")  # options that already carry their letter


def read_options(value: Any, answer_is: str) -> list[str]:
    """Return the options' texts without letters, "" for a missing one, up to the last one; [] for no options.

    value: a list, a list written as text, or {"A": text, ...}. answer_is: as in `MultipleChoice`. Raises BadSample for
    anything else.
    """
    if isinstance(value, str):
        value = _parse_list(value)
    if isinstance(value, dict):
        value = _by_letter(value)
    if not isinstance(value, list | tuple | None):
        raise BadSample(f"its choices are not a list: {str(value)[:60]}")
    for option in value or []:
        if isinstance(option, list | dict):
            raise BadSample(f"its choice {str(option)[:60]} is no text")
    options = [scalar_text(option) if has_value(option) else "" for option in value or []]
    while options and not options[-1]:
        options.pop()
    if len(options) > len(LETTERS):
        raise BadSample(f"it has {len(options)} choices; there are letters for {len(LETTERS)}")
    return _without_letters(options, placed=answer_is == "letter")


def named_options(text: str, options: list[str], answer_is: str) -> set[str]:
    """Return the letters of the options that a stored answer names. answer_is: as in `MultipleChoice`."""
    there = {letter: option.strip() for letter, option in zip(LETTERS, options, strict=False) if option}
    by_letter = {text.upper()} & there.keys()
    same = (text, LETTERED.sub("", text))
    by_text = {letter for letter, option in there.items() if option in same}
    if answer_is == "letter":
        return by_letter
    if answer_is == "index":
        return {LETTERS[int(text)]} & there.keys() if text.isdecimal() and int(text) < len(options) else set()
    # The official scorers take the first of two equal options.
    return set(sorted(by_text)[:1]) if answer_is == "text" else by_letter | by_text


def is_letter(answer: str) -> bool:
    """Return True if an answer is one letter of the alphabet."""
    return len(answer) == 1 and answer.upper() in LETTERS


def _parse_list(text: str) -> Any:
    """Return the list that a text holds in Python's or JSON's notation; None for a blank text. Raises BadSample."""
    if not text.strip():
        return None
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise BadSample(f"its choices are not a list: {text[:60]}")


def _by_letter(options: dict[str, Any]) -> list[Any]:
    """Return the values of {"A": text, "C": text} in the order of their letters, None for a letter that is left out."""
    if not all(isinstance(name, str) and is_letter(name) for name in options):
        raise BadSample(f"its choices are an object with {', '.join(map(str, options))[:60]}; expected a list of texts")
    texts = {name.upper(): text for name, text in options.items()}
    return [texts.get(letter) for letter in LETTERS[: LETTERS.index(max(texts, default="A")) + 1]]


def _without_letters(options: list[str], placed: bool) -> list[str]:
    """Return "A. a dog" as "a dog" if every option carries the letter of its index.

    placed: move options that carry other letters to the index of that letter, which an answer's letter refers to.
    """
    matches = {k: match for k, option in enumerate(options) if (match := LETTERED.match(option))}
    texts = {match[1]: options[k][match.end() :] for k, match in matches.items()}
    if not texts or len(texts) < sum(
        map(bool, options)
    ):  # some have none, or two have the same: letters are part of the text
        return options
    if placed or all(match[1] == LETTERS[k] for k, match in matches.items()):
        return [texts.get(letter, "") for letter in LETTERS[: LETTERS.index(max(texts)) + 1]]
    return options  # "C. elegans"


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
            stored = [read_field(row, column) for column in named]
            texts = [scalar_text(cell) if has_value(cell) else "" for cell in stored]
            right = named_options(self._answer(row), texts, self.answer_is)
            value = [stored[k] if LETTERS[k] in right else given for k, given in enumerate(value)]
        options = read_options(value, self.answer_is)
        return [option.strip() for option in options] if self.strip else options

    def _answer(self, row: dict[str, Any]) -> str:
        answer = self.value(row, "answer")
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        return "" if answer is None else scalar_text(answer).strip()

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
        index = scalar_text(self.value(row, "index"))
        if not index.isdecimal():
            raise BadSample(f"its index {index} is no number, which average=circular needs")
        return str(question_of_index(index))

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
        return summarise_circular(rows) if self.average == "circular" else summarise_grouped(rows)

    def units(self, rows: list[dict[str, Any]]) -> tuple[list[float], list[str]] | None:
        if self.average == "circular":
            worst: dict[int, float] = {}
            image: dict[int, str] = {}
            for row in rows:
                question = question_of_row(row)
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
        written = self.hint.format(hint=hint) if has_value(hint) else ""
        return written + super().question(row)


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
        return super().extra(row) | {"answers": parse_answers(self.value(row, "answer"))}

    def prompt(self, sample: Sample) -> str:
        text = super().prompt(sample) if sample.extra["choices"] else self.prefix + sample.question + self.open_suffix
        return renumber_markers(text, list(self.image_cells(sample.id))) if MARKER.search(text) else text

    def match(self, prediction: str, sample: Sample) -> float:
        if sample.extra["choices"]:
            return super().match(prediction, sample)
        return open_match(prediction, sample.extra["answers"])


def renumber_markers(text: str, columns: list[int]) -> str:
    """Return the text with each marker "<image 3>" numbered by column 3's rank among the row's images.

    columns: numbers of the columns that are not empty. The marker of an empty column 2 becomes the text "image 2".
    """

    def place(marker: re.Match[str]) -> str:
        number = int(marker[1])
        return f"<image {columns.index(number) + 1}>" if number in columns else f"image {number}"

    return MARKER.sub(place, text)


def parse_answers(value: Any) -> list[str]:
    """Return the accepted answers of an open question; the dataset writes several as a Python list."""
    text = "" if value is None else str(value)
    if text.startswith("[") and text.endswith("]"):
        try:
            return answer_texts(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return [text]
    return answer_texts(value)
