"""Columns and cells of a dataset: names, roles, types, missing values, answers and ids."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vlmprune.benchmarks.base import BadSample, Benchmark
from vlmprune.benchmarks.tables import Table
from vlmprune.config.typecheck import check_type
from vlmprune.errors import UserError, nearest


def has_value(value: Any) -> bool:
    """Return True if there is a value: neither null, NaN, blank nor empty, nor a list of such."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return any(map(has_value, value))
    return not is_null(value) and value not in ({}, b"")


def is_null(value: Any) -> bool:
    """Return True if a cell is null, or NaN, which columns of numbers and JSON files hold for null."""
    return value is None or (isinstance(value, float) and value != value)


def scalar_text(value: Any) -> str:
    """Return a scalar as text; 3.0 is "3", since a column of integers becomes one of floats if a row has none."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def answer_texts(value: Any) -> list[str]:
    """Return annotators' answers as texts; nulls are left out, "" is not. Raises BadSample for any other value.

    value: a text, a list of texts or of {"answer": text}, or its transpose {"answer": [text, ...]}.
    """
    if isinstance(value, dict) and "answer" in value:
        value = value["answer"]
    items = value if isinstance(value, list) else [value]
    answers = [item["answer"] if isinstance(item, dict) and "answer" in item else item for item in items]
    for answer in answers:
        if isinstance(answer, bool | list | dict):
            kind = "true or false" if isinstance(answer, bool) else "an object" if isinstance(answer, dict) else "lists"
            raise BadSample(
                f"its answer {str(value)[:60]} is or holds {kind}; expected text, a number or a list of them"
            )
    return [scalar_text(answer) for answer in answers if not is_null(answer)]


def id_text(value: Any) -> str:
    """Return an id as text, its parts joined by "/"; "" if there is none."""
    parts = value if isinstance(value, list) else [value]
    return "/".join(scalar_text(part) for part in parts if not is_null(part))


def most_common(answers: list[str]) -> str:
    """Return the most frequent answer, the first of equally frequent ones; "" if all are blank."""
    given = [answer for answer in answers if answer.strip()]
    return max(given, key=Counter(given).__getitem__) if given else ""


def named_columns(named: Any) -> list[str]:
    """Return the columns that a role names: none, one or several."""
    return [] if named is None else named if isinstance(named, list) else [named]


def top_level(column: str) -> str:
    """Return the column that holds a field such as "types.structural?"."""
    return column.rstrip("?").partition(".")[0]


def read_field(row: dict[str, Any], column: str) -> Any:
    """Return a row's value in a column or in a field of one; None if it is absent or NaN."""
    value: Any = row
    for name in column.rstrip("?").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if is_null(value) else value


def check_columns(settings: dict[str, Any], there: list[str], path: str) -> None:
    """Raise UserError if a benchmark's setting names a column that is not in `there`, the columns of `path`."""
    for setting, named in settings.items():
        for column in named_columns(named):
            if not column.endswith("?") and top_level(column) not in there:
                raise UserError(
                    f"benchmark.{setting}={column}: no such column in {path}{nearest(column, there)}; "
                    f"there are: {', '.join(there)}"
                )


LONGEST_TEXT = 100_000  # characters of a cell, and of a whole prompt
LONGEST_ID = 1_000  # characters
LENGTHS = {"string_too_long": "characters", "too_long": "entries"}  # pydantic's errors -> the unit of the limit
MOST_VALUES = 1_000  # texts of a list, such as annotators' answers, or pictures

Number = bool | int | float | Decimal | date | datetime | time | timedelta | UUID | None  # all short as text
FIRST = Field(union_mode="left_to_right")  # takes the first type that fits, not the best: faster
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Scalar = Annotated[Text | Number, FIRST]
Identifier = Annotated[Annotated[str, Field(max_length=LONGEST_ID)] | Number, FIRST]
Several = Field(max_length=MOST_VALUES)
# `answer_texts`, `read_options` and `stored_picture` check such values further.
Open = Annotated[Text | dict | list | Number, FIRST]

_NAMES = "text, a number or a list of them"
# Role -> the type of its value, and the name of that type in an error.
TYPES: dict[str, tuple[Any, str]] = {
    "id": (Identifier | Annotated[list[Identifier], Several], _NAMES),
    "question": (Scalar, "text or a number"),
    "hint": (Scalar, "text or a number"),
    "category": (Identifier | Annotated[list[Identifier], Several], _NAMES),
    "answer": (Annotated[Text | dict | Annotated[list[Open], Several] | Number, FIRST], _NAMES),
    "choices": (Annotated[list[Open] | dict[str, Open] | Scalar, FIRST], "a list of texts"),
    "image": (str | bytes | dict[str, Any] | Number | Annotated[list[Any], Several], "a picture or a list of them"),
}


def check_values(value_of: Callable[[str], Any], roles: tuple[str, ...] = tuple(TYPES)) -> None:
    """Raise BadSample for the first role whose value has another type or is too long. value_of: role -> value."""
    for role in roles:
        value = value_of(role)
        try:
            _adapter(role).validate_python(value)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                if fault["type"] in LENGTHS:
                    most = f"{fault['ctx']['max_length']:,} {LENGTHS[fault['type']]}"
                    raise BadSample(f"its {role}: more than {most}") from error
            raise BadSample(f"its {role} {str(value)[:60]} is not {TYPES[role][1]}") from error


@functools.cache
def _adapter(role: str) -> TypeAdapter:
    return TypeAdapter(TYPES[role][0], config=ConfigDict(strict=True))


LONGEST_IMAGE_ID = 255  # characters of an image_id; a longer one, such as a picture in base64, is hashed
SPARSE = ("choices", "hint", "category", "other_answer", "image")  # their empty cells may hold "nan"


@dataclass
class TabularBenchmark(Benchmark):
    """Base of benchmarks whose samples are rows of a table.

    columns: role -> column. Roles: id, image_id, image, question, answer, category, and those of a subclass. A column
    may be a field of another ("types.structural"), a list of columns, or null for a role that the data lack; the "?"
    of "E?" allows it to be absent. missing: texts, in lower case, that mean no value in an option's column, hint,
    category, second answer or image; they are ordinary text in a list of options or an answer. strip: remove blanks
    around the question. capitalize: ask it with a capital first letter and everything else in lower case.
    """

    columns: dict = field(default_factory=dict)
    missing: list = field(default_factory=lambda: ["nan"])
    strip: bool = False
    capitalize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for role, named in self.columns.items():
            check_type(f"benchmark.columns.{role}", named, str | list[str] | None)
        check_type("benchmark.missing", self.missing, list[str])

    def image_id(self, row: dict[str, Any]) -> str:
        """Return the id of the row's image, hashed if it is too long; "" if no column gives one."""
        name = id_text(self.value(row, "image_id"))
        return name if len(name) <= LONGEST_IMAGE_ID else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"

    def question(self, row: dict[str, Any]) -> str:
        """Return the question, without prefix and suffix."""
        value = self.value(row, "question")
        question = "" if value is None else scalar_text(value)
        question = question.strip() if self.strip else question
        return question.capitalize() if self.capitalize else question

    def answer(self, row: dict[str, Any]) -> str:
        """Return the reference answer, or the one that most annotators gave."""
        return most_common(answer_texts(self.value(row, "answer")))

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return other data that scoring or a submission file needs."""
        question_id = self.value(row, "question_id")
        return {} if question_id is None else {"question_id": question_id}

    def group(self, row: dict[str, Any]) -> str:
        """Return the key of rows that are only scored together (see `Sample`); "" for a row that is scored alone."""
        return ""

    def value(self, row: dict[str, Any], role: str) -> Any:
        """Return a row's value for a role: None if the data lack it, a list if the role has several columns."""
        named = self.columns.get(role)
        if isinstance(named, list):
            return [self.given(role, read_field(row, column)) for column in named]
        return self.given(role, read_field(row, named)) if named else None

    def given(self, role: str, cell: Any) -> Any:
        """Return a cell's value; None if it is a text of `missing`."""
        absent = role in SPARSE and isinstance(cell, str) and cell.strip().lower() in self.missing
        return None if absent else cell

    def existing(self, role: str, table: Table) -> list[str]:
        """Return the columns of a role that the table has."""
        columns = map(top_level, named_columns(self.columns.get(role)))
        return [column for column in columns if column in table.columns]
