"""Base class of benchmarks on tables: the column of each role, and a row's value for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.benchmarks.columns import columns_of, field_of, joined, most_common, shown, texts, top_level
from vlmprune.benchmarks.tables import Table
from vlmprune.schema import check_type

LONGEST_ID = 255  # characters of an image_id; a longer one, such as a picture in base64, is hashed
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
        name = joined(self.value(row, "image_id"))
        return name if len(name) <= LONGEST_ID else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"

    def question(self, row: dict[str, Any]) -> str:
        """Return the question, without prefix and suffix."""
        value = self.value(row, "question")
        question = "" if value is None else shown(value)
        question = question.strip() if self.strip else question
        return question.capitalize() if self.capitalize else question

    def answer(self, row: dict[str, Any]) -> str:
        """Return the reference answer, or the one that most annotators gave."""
        return most_common(texts(self.value(row, "answer")))

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
            return [self.given(role, field_of(row, column)) for column in named]
        return self.given(role, field_of(row, named)) if named else None

    def given(self, role: str, cell: Any) -> Any:
        """Return a cell's value; None if it is a text of `missing`."""
        absent = role in SPARSE and isinstance(cell, str) and cell.strip().lower() in self.missing
        return None if absent else cell

    def existing(self, role: str, table: Table) -> list[str]:
        """Return the columns of a role that the table has."""
        columns = map(top_level, columns_of(self.columns.get(role)))
        return [column for column in columns if column in table.columns]
