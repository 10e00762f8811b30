"""Reading of JSON from any source, checked field by field against a TypedDict before a value is used.

A schema is a TypedDict whose fields have types and bounds (`Annotated[int, Field(ge=0, description=...)]`); fields that
it does not name are kept unchanged, so that a newer version may add some.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vlmprune.errors import UserError
from vlmprune.files import read_bytes

T = TypeVar("T")

# For every schema (`@with_config(STRICT)`): no text for a number, no nan, no infinity.
STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

# Bounds far above any measured value, and far below values whose sums or products overflow.
Count = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Amount = Annotated[float, Field(ge=0, le=1e30)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_MAY_OVERFLOW = re.compile(rb"NaN|Infinity|\d[eE]\+?\d{3}|\d{309}")


def read_json(file: Path, schema: type[T]) -> T:
    """Return the content of a JSON file, of type `schema`. Raise OSError, or ValueError that names the wrong field."""
    return parse_json(read_bytes(file), schema)


def read_lines(file: Path, schema: Any, about: str) -> list[Any]:
    """Return the rows of a JSON-lines file, [] without one; an incomplete last line is cut off the file.

    about: name of a line in messages. Raises UserError that names the file, the line and the field.
    """
    if not os.path.lexists(file):
        return []
    try:
        data = read_bytes(file)
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            os.truncate(file, complete)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}): repair it to resume") from error
    try:
        return parse_lines(data[:complete], schema)
    except BadLine as error:
        why = "not JSON" if is_syntax_error(error.fault) else f"no {about}"
        raise UserError(f"{file} line {error.number} is {why} ({error}): remove the line to resume") from error


class BadLine(ValueError):
    """A line of several that does not fit its schema. number: of the line, from 1; fault: the error of `parse_json`."""

    def __init__(self, number: int, fault: ValueError) -> None:
        super().__init__(str(fault))
        self.number, self.fault = number, fault


def parse_lines(data: bytes, schema: Any) -> list[Any]:
    """Return the values of the lines of `data`, each of type `schema`. Raise BadLine for the first that is not."""
    lines = data.splitlines()
    if not _MAY_OVERFLOW.search(data):
        try:
            return list(map(_adapter(schema).validate_json, lines))
        except ValidationError:
            pass  # parsed again line by line, to find the wrong one
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_json(line, schema))
        except ValueError as error:
            raise BadLine(number, error) from error
    return rows


def parse_json(text: str | bytes, schema: type[T], finite: bool = True) -> T:
    """Return the value of a JSON `text`, of type `schema`. Raise ValueError with one line that names the wrong field.

    finite: refuse nan and infinity also in fields that the schema does not name.
    """
    content = text.encode() if isinstance(text, str) else text
    try:
        data: T = _adapter(schema).validate_json(content)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_error(error)) from error
    if finite and _MAY_OVERFLOW.search(content):
        _check_finite("", data)
    return data


def _check_finite(name: str, value: Any) -> None:
    """Raise ValueError with the name of the first nan or infinity in plain data."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value}: no finite number")
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, list | tuple):
        items = enumerate(value)
    elif isinstance(value, dict) or dataclasses.is_dataclass(value):
        items = (value if isinstance(value, dict) else vars(value)).items()
    for key, inner in items:
        _check_finite(f"{name}.{key}" if name else str(key), inner)


def check_data(data: Any, schema: type[T]) -> T:
    """Return plain data, as read from YAML, of type `schema`. Raise ValueError with one line that names the field."""
    try:
        return _adapter(schema).validate_python(data)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


def first_error(error: ValidationError) -> str:
    """Return a line for the first of pydantic's errors: 'answers.tokens.total=-1: Input should be greater than 0'."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "literal_error" and name == "schema":
        return f"it has schema {str(fault['input'])[:20]}; this version reads {fault['ctx']['expected']}"
    given = str(fault["input"])
    # The message of a rule about a whole row names the wrong part itself.
    whole = fault["type"] == "value_error" and isinstance(fault["input"], dict | list) and len(given) > 60
    shown = "" if whole or fault["type"] == "json_invalid" else f"={given[:60]}"
    message = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
    return f"{name}{shown}: {message}" if name else message


def is_syntax_error(error: ValueError) -> bool:
    """Return True if an error of `parse_json` is about JSON syntax, not about a field."""
    cause = error.__cause__
    return isinstance(cause, ValidationError) and cause.errors(include_url=False)[0]["type"] == "json_invalid"


@functools.cache
def _adapter(schema: Any) -> TypeAdapter:
    return TypeAdapter(schema)
