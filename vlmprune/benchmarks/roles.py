"""Which column of a table plays which role, and what a row says in each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.benchmarks.columns import columns_of, field_of, joined, most_common, shown, texts, top_level
from vlmprune.benchmarks.tables import Table
from vlmprune.schema import check_type

LONGEST_ID = 255  # characters of an image_id; a longer one, such as a picture in base64, is hashed
SPARSE = ("choices", "hint", "category", "other_answer", "image")  # roles whose cells a table fills with "nan"


@dataclass
class TabularBenchmark(Benchmark):
    """Base of benchmarks whose samples are rows of a table.

    columns: role -> column. Roles: id, image_id, image, question, answer, category, and a subclass's own. A column may
    be a field of another ("types.structural"), a list of columns, or null for a role that the data do not have; the "?"
    of "E?" allows it to be absent. missing: texts, in lower case, that stand for no value in an option's column, hint,
    category, second answer or image; a list of options holds none of them, nor does an answer. strip: ask the question
    without blanks around it. capitalize: ask it with a capital first letter and everything else in lower case.
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
        """What the row's image is called; "" where no column says so."""
        name = joined(self.value(row, "image_id"))
        return name if len(name) <= LONGEST_ID else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"

    def question(self, row: dict[str, Any]) -> str:
        """The question, without prefix and suffix."""
        value = self.value(row, "question")
        question = "" if value is None else shown(value)
        question = question.strip() if self.strip else question
        return question.capitalize() if self.capitalize else question

    def answer(self, row: dict[str, Any]) -> str:
        """The reference answer, or the one that most annotators gave."""
        return most_common(texts(self.value(row, "answer")))

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        """What scoring or a submission file needs beside the answer."""
        question_id = self.value(row, "question_id")
        return {} if question_id is None else {"question_id": question_id}

    def group(self, row: dict[str, Any]) -> str:
        """What the rows have in common that are only scored together (see `Sample`); "" where each stands alone."""
        return ""

    def value(self, row: dict[str, Any], role: str) -> Any:
        """A row's value for a role: None where the data do not have it, a list where the role has several columns."""
        named = self.columns.get(role)
        if isinstance(named, list):
            return [self.given(role, field_of(row, column)) for column in named]
        return self.given(role, field_of(row, named)) if named else None

    def given(self, role: str, cell: Any) -> Any:
        """A cell's value; None where it is a text that stands for none."""
        absent = role in SPARSE and isinstance(cell, str) and cell.strip().lower() in self.missing
        return None if absent else cell

    def existing(self, role: str, table: Table) -> list[str]:
        """The columns of a role that the table has."""
        columns = map(top_level, columns_of(self.columns.get(role)))
        return [column for column in columns if column in table.columns]
