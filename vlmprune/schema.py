"""Values against type hints: the one place that says what a setting may be, in one clear line."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

from vlmprune.errors import UserError, nearest

WORDS = {
    types.NoneType: "null",
    float: "a number",
    int: "an integer",
    str: "text",
    bool: "true or false",
    dict: "settings of its own, such as {key: value}",
}
# Settings that name a file or folder.
FILES = ("path", "outputs", "data", "folder", "clip", "videos", "pictures", "questions")


def construct(cls: type, values: dict[str, Any], where: str) -> Any:
    """Build the dataclass `cls` from `values`, each checked against its type hint. Raises UserError by name.

    where: prefix of the names in messages, as the user types them ("method." or "" for the top level).
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    for name, value in values.items():
        if name not in fields:
            raise UserError(
                f"{where}{name}: unknown setting{nearest(name, fields)}; allowed: {', '.join(sorted(fields)) or 'none'}"
            )
        check_type(f"{where}{name}", value, fields[name])
    absent = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in values and _required(f)]
    if absent:
        raise UserError(f"{where}{absent[0]}: missing, and it has no default")
    # YAML has ints where floats are meant, and lists where tuples are.
    converted = {name: _convert(value, fields[name]) for name, value in values.items()}
    try:
        return cls(**converted)
    except ValueError as error:  # a dataclass that checks its own values
        raise UserError(f"{where.rstrip('.')}: {error}" if where else str(error)) from error


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise a UserError unless `value` fits a type hint made of scalars, Literal, None, list, tuple and dict."""
    if not _fits(value, hint):
        written = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        quoted = f"; in quotes it is text: {name}=\"'{written}'\"" if str in _alternatives(hint) and value else ""
        raise UserError(f"{name}={written}: expected {_describe(hint)}{_suggest(value, hint)}{quoted}")


def check_fields(given: Any) -> None:
    """Raise a UserError unless every field of a dataclass object fits its type hint."""
    hints = typing.get_type_hints(type(given))
    for field in dataclasses.fields(given):
        check_type(field.name, getattr(given, field.name), hints[field.name])


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for option in _alternatives(hint):
        origin = typing.get_origin(option) or option
        if origin is Any:
            return True
        if origin is Literal:
            if value in typing.get_args(option):
                return True
        elif origin is types.NoneType:
            if value is None:
                return True
        elif origin is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return True
        elif origin is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return True
        elif origin in (tuple, list):
            if isinstance(value, list | tuple):
                items = [item for item in typing.get_args(option) if item is not Ellipsis]
                if not items or all(any(_fits(v, item) for item in items) for v in value):
                    return True
        elif isinstance(value, origin):
            return True
    return False


def _describe(hint: Any) -> str:
    names = []
    for option in _alternatives(hint):
        if typing.get_origin(option) is Literal:
            names += [str(value) for value in typing.get_args(option)]
        else:
            names.append(WORDS.get(option, getattr(option, "__name__", str(option))))
    return " or ".join(names)


def _suggest(value: Any, hint: Any) -> str:
    literals = [
        str(v)
        for option in _alternatives(hint)
        if typing.get_origin(option) is Literal
        for v in typing.get_args(option)
    ]
    return nearest(str(value), literals)


def _convert(value: Any, hint: Any) -> Any:
    if isinstance(value, list) and any((typing.get_origin(o) or o) is tuple for o in _alternatives(hint)):
        return tuple(value)
    if type(value) is int and float in _alternatives(hint) and int not in _alternatives(hint):
        return float(value)
    return value


def check_file_names(settings: dict[str, Any], where: str = "") -> None:
    """Raise a UserError where a nested setting that names a file or folder holds a name that no file system takes."""
    for key, value in settings.items():
        if isinstance(value, dict):
            check_file_names(value, f"{where}{key}.")
        elif isinstance(value, str) and key == "outputs" and not value.strip():
            raise UserError(f"{where}{key}={value}: expected the name of a folder, such as outputs")
        elif isinstance(value, str) and key in FILES:
            longest = max(len(part.encode(errors="surrogatepass")) for part in value.split("/"))
            if longest > 255 or len(value) > 4000 or "\0" in value:
                raise UserError(
                    f"{where}{key}={value}: {len(value)} characters, {longest} bytes in a name of it; allowed: "
                    "4000 and 255, without NUL"
                )


def check_amount(ratio: float | None, keep: int | None) -> None:
    """Raise a UserError unless ratio is in 0..1, keep is not negative, and at most one of them is given."""
    if ratio is not None and keep is not None:
        raise UserError(f"ratio={ratio} and keep={keep}: give one of them, not both")
    if ratio is not None and not 0 <= ratio <= 1:  # also false for nan
        raise UserError(f"ratio={ratio}: the fraction of visual tokens removed; allowed: 0 to 1")
    if keep is not None and keep < 0:
        raise UserError(f"keep={keep}: the number of visual tokens kept; allowed: 0 or more")
