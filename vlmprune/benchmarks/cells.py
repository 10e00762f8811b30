"""Types of a row's values by role, checked before a value is asked, scored or used as a name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vlmprune.benchmarks.base import BadSample

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
# `texts`, `read_options` and `stored_picture` check such values further.
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
