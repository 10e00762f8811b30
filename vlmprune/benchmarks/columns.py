"""Cells of a dataset in all forms in which they are stored: missing values, names of columns, answers, ids."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vlmprune.benchmarks.base import BadSample
from vlmprune.errors import UserError, nearest


def present(value: Any) -> bool:
    """Return True if there is a value: neither null, NaN, blank nor empty, nor a list of such."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return any(map(present, value))
    return not is_null(value) and value not in ({}, b"")


def is_null(value: Any) -> bool:
    """Return True if a cell is null, or NaN, which columns of numbers and JSON files hold for null."""
    return value is None or (isinstance(value, float) and value != value)


def shown(value: Any) -> str:
    """Return a scalar as text; 3.0 is "3", since a column of integers becomes one of floats if a row has none."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def texts(value: Any) -> list[str]:
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
    return [shown(answer) for answer in answers if not is_null(answer)]


def joined(value: Any) -> str:
    """Return an id as text, its parts joined by "/"; "" if there is none."""
    parts = value if isinstance(value, list) else [value]
    return "/".join(shown(part) for part in parts if not is_null(part))


def most_common(answers: list[str]) -> str:
    """Return the most frequent answer, the first of equally frequent ones; "" if all are blank."""
    given = [answer for answer in answers if answer.strip()]
    return max(given, key=Counter(given).__getitem__) if given else ""


def columns_of(named: Any) -> list[str]:
    """Return the columns that a role names: none, one or several."""
    return [] if named is None else named if isinstance(named, list) else [named]


def top_level(column: str) -> str:
    """Return the column that holds a field such as "types.structural?"."""
    return column.rstrip("?").partition(".")[0]


def field_of(row: dict[str, Any], column: str) -> Any:
    """Return a row's value in a column or in a field of one; None if it is absent or NaN."""
    value: Any = row
    for name in column.rstrip("?").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if is_null(value) else value


def check_columns(settings: dict[str, Any], there: list[str], path: str) -> None:
    """Raise UserError if a benchmark's setting names a column that is not in `there`, the columns of `path`."""
    for setting, named in settings.items():
        for column in columns_of(named):
            if not column.endswith("?") and top_level(column) not in there:
                raise UserError(
                    f"benchmark.{setting}={column}: no such column in {path}{nearest(column, there)}; "
                    f"there are: {', '.join(there)}"
                )
