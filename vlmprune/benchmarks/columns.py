"""Reading a dataset's cells, however they are stored: names of columns, answers, ids."""

from __future__ import annotations

from typing import Any

from vlmprune.errors import UserError, nearest


def texts(value: Any) -> list[str]:
    """Annotators' answers as stored in any of the usual ways: text, a list of texts or of {"answer": text}, or its
    transpose {"answer": [text, ...]}."""
    if isinstance(value, dict):
        value = value.get("answer")
    if value is None:
        return []
    if not isinstance(value, list):
        return [str(value)]
    return [str(item["answer"] if isinstance(item, dict) else item) for item in value if item is not None]


def joined(value: Any) -> str:
    """An id as text, its parts joined by "/"; "" where there is none."""
    parts = value if isinstance(value, list) else [value]
    return "/".join(str(part) for part in parts if part is not None)


def most_common(answers: list[str]) -> str:
    """The answer given most often, the first of equals; "" where none says anything."""
    given = [answer for answer in answers if answer.strip()]
    return max(given, key=given.count) if given else ""


def present(value: Any) -> bool:
    """Whether there is a value: neither null nor empty, nor a list of nulls."""
    return value not in (None, "", [], {}) and not (isinstance(value, list) and all(v is None for v in value))


def columns_of(named: Any) -> list[str]:
    """The columns that a role names: none, one or several."""
    return [] if named is None else named if isinstance(named, list) else [named]


def top_level(column: str) -> str:
    """The column that a field such as "types.structural?" is in."""
    return column.rstrip("?").partition(".")[0]


def field_of(row: dict[str, Any], column: str) -> Any:
    """A row's value in a column or in a field of one; None where it is absent."""
    value: Any = row
    for name in column.rstrip("?").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def check_columns(settings: dict[str, Any], there: list[str], path: str) -> None:
    """Raise a UserError where a setting of a benchmark names a column that is not `there`, in the data of `path`."""
    for setting, named in settings.items():
        for column in columns_of(named):
            if not column.endswith("?") and top_level(column) not in there:
                raise UserError(
                    f"benchmark.{setting}={column}: no such column in {path}{nearest(column, there)}; "
                    f"there are: {', '.join(there)}"
                )
