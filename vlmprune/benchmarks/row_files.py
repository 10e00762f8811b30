"""Rows of a text file: JSON, JSON lines, CSV, TSV, as people and other programs write them."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError, error_text
from vlmprune.files import read_bytes

Rows = list[dict[str, Any]]
SEPARATORS = {".csv": ",", ".tsv": "\t"}
TEXT_FILES = (".json", ".jsonl", *SEPARATORS)
_HALVES = re.compile("[\ud800-\udfff]")  # lone surrogates, which no file or tokenizer takes
_LARGEST = 2**31 - 1  # characters of a CSV field, which may be a picture in base64
LONGEST_INDEX = 64  # characters
LONGEST_LIST = 100_000  # characters of a CSV field that is read as a list
DEEPEST = 100  # levels of nested lists and objects in a row


def read_rows(file: Path) -> Rows:
    """Return the rows of a .json, .jsonl, .csv or .tsv file in UTF-8, with or without a byte-order mark.

    NaN is read as null and a lone surrogate as U+FFFD. Raises UserError, which names the line.
    """
    separator = SEPARATORS.get(file.suffix.lower())
    try:
        # A text stream converts line ends as Python's text files do.
        text = io.TextIOWrapper(io.BytesIO(read_bytes(file)), encoding="utf-8-sig").read()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        kind = "JSON" if separator is None else "a table"
        raise UserError(f"{file} is not {kind} in UTF-8 ({error_text(error)}); save it as UTF-8") from error
    return _json(file, text) if separator is None else _table(file, text, separator)


def _json(file: Path, text: str) -> Rows:
    """Return the rows of a list of objects, or of one object per line."""
    if text.lstrip().startswith("["):
        rows = _parse(f"{file}", text)
        places = [f"{file} entry {number}" for number in range(1, len(rows) + 1)]
    else:
        # Not str.splitlines: a JSON string may hold U+2028, U+2029 and U+0085 unescaped.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        places = [f"{file} line {number}" for number, _ in lines]
        rows = [_parse(place, line) for place, (_, line) in zip(places, lines, strict=True)]
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row, dict):
            raise UserError(f"{place}: every row must be an object, {{...}}")
    return rows


def _parse(place: str, text: str) -> Any:
    try:
        parsed = json.loads(text, parse_constant=lambda name: None if name == "NaN" else name)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}); expected a list of objects, or an object a line") from error
    if _is_deep(parsed):
        raise UserError(f"{place}: more than {DEEPEST} lists and objects in each other")
    return _replace_surrogates(parsed) if "\\ud" in text or "\\uD" in text else parsed


def _is_deep(value: Any) -> bool:
    """Return True if more than DEEPEST lists and objects are nested, too many for recursive functions."""
    level = [value]
    for _ in range(DEEPEST + 2):
        level = [
            inner
            for each in level
            if isinstance(each, list | dict)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _replace_surrogates(value: Any) -> Any:
    """Return the value with U+FFFD in place of each lone surrogate."""
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_replace_surrogates(name): _replace_surrogates(item) for name, item in value.items()}
    return value


def _table(file: Path, text: str, separator: str) -> Rows:
    """Return the rows of a table with a header, cells as text, lists of texts or None, without nameless columns."""
    csv.field_size_limit(_LARGEST)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    rows: Rows = []
    try:
        header = [name for name in reader.fieldnames or [] if name]
        if twice := {name for name, times in Counter(header).items() if times > 1}:
            raise UserError(f"{file}: two columns are called {', '.join(sorted(twice))}")
        for row in reader:
            if any(row.pop(None, [])):
                raise UserError(f"{file} line {reader.line_num}: it has more fields than the header ({len(header)})")
            if any(row.values()):
                rows.append({name: _cell(row[name]) for name in header})
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num} cannot be read: {error}") from error
    return _with_pictures(rows)


def _cell(text: str | None) -> str | list[str] | None:
    """Return a field's text, a list of texts if pandas wrote one into the field, or None if it is empty."""
    if not text or len(text) > LONGEST_LIST or not (text.startswith("[") and text.endswith("]")):
        return text or None
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return listed if listed and all(isinstance(item, str) for item in listed) else text


def _with_pictures(rows: Rows) -> Rows:
    """Return the rows with base64 for each `image` that is another row's `index`, as in VLMEvalKit's tables."""
    pictures = {row.get("index"): row.get("image") for row in rows}
    for row in rows:
        other = pictures.get(row.get("image")) if isinstance(row.get("image"), str) else None
        if isinstance(other, str) and len(other) > LONGEST_INDEX >= len(row["image"]):
            row["image"] = other
    return rows
