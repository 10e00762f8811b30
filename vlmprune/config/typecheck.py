"""Checks of settings against type hints, with errors as one line that says what is allowed."""

from __future__ import annotations

import dataclasses
import string
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from annotated_types import Interval

from vlmprune.errors import UserError, error_text, nearest
from vlmprune.own_code import call, is_own

WORDS = {
    types.NoneType: "null",
    float: "a number",
    int: "an integer",
    str: "text",
    bool: "true or false",
    dict: "settings of its own, such as {key: value}",
    list: "a list, such as [a,b]",
    tuple: "a list, such as [a,b]",
}
# Settings that name a file or folder.
FILES = ("path", "outputs", "data", "folder", "clip", "videos", "pictures", "questions")


def construct(cls: type, values: dict[str, Any], where: str) -> Any:
    """Build the dataclass `cls` from `values`, each checked against its type hint. Raise UserError with the name.

    A field that is a dataclass itself is built from a mapping. where: prefix of the names in messages, as the user
    types them ("method." or "" for the top level).
    """
    hints = hints_of(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise UserError(
                f"{where}{name}: unknown setting{nearest(name, fields)}; allowed: {', '.join(sorted(fields)) or 'none'}"
            )
        hint = fields[name]
        is_section = dataclasses.is_dataclass(hint) and not dataclasses.is_dataclass(value)
        check_type(f"{where}{name}", value, dict if is_section else hint)
        # YAML gives ints for floats, and lists for tuples.
        converted[name] = construct(hint, value, f"{where}{name}.") if is_section else _convert(value, hint)
    if is_own(cls):
        check_defaults(cls, values)
    absent = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in values and _required(f)]
    if absent:
        raise UserError(f"{where}{absent[0]}: missing, and it has no default")
    try:
        return call(cls, "__post_init__", function=cls, **converted) if is_own(cls) else cls(**converted)
    except ValueError as error:  # from a check in __post_init__
        raise UserError(f"{where.rstrip('.')}: {error}" if where else str(error)) from error


def check_defaults(cls: type, given: Iterable[str]) -> None:
    """Raise UserError if a user's class has a default of another type for a field of its base class."""
    base = next(each for each in cls.__mro__ if not is_own(each))
    hints = typing.get_type_hints(base, include_extras=True)
    for field in dataclasses.fields(cls):
        if field.name in hints and field.name not in given and field.default is not dataclasses.MISSING:
            check_type(f"{cls.__name__}.{field.name}", field.default, hints[field.name])


def hints_of(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields. Raise UserError if those of a user's own class cannot be read."""
    for base in cls.__mro__:
        own = [name for name, hint in vars(base).get("__annotations__", {}).items() if "ClassVar" not in str(hint)]
        if own and is_own(base) and "__dataclass_fields__" not in vars(base):
            raise UserError(
                f"{base.__module__}.{base.__name__} has fields ({', '.join(own)}) and no @dataclass: write it above "
                "the class, or they are no settings"
            )
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        if not is_own(cls):
            raise
        raise UserError(
            f"{cls.__module__}.{cls.__name__}: the type of a field cannot be read ({type(error).__name__}: "
            f"{error_text(error)})"
        ) from error


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise UserError unless `value` fits a type hint made of scalars, Literal, None, list, tuple and dict."""
    if not _fits(value, hint):
        written = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        quoted = f"; in quotes it is text: {name}=\"'{written}'\"" if str in _alternatives(hint) and value else ""
        listed = f"; write {name}=[{written}]" if value is not None and _fits([value], hint) else ""
        raise UserError(f"{name}={written}: expected {_describe(hint)}{_suggest(value, hint)}{quoted}{listed}")
    if fault := _out_of_bounds(value, hint):
        raise UserError(f"{name}={value}: {fault}")


def check_fields(given: Any) -> None:
    """Raise UserError unless every field of a dataclass object fits its type hint."""
    hints = hints_of(type(given))
    for field in dataclasses.fields(given):
        check_type(field.name, getattr(given, field.name), hints[field.name])


def check_bounds(given: Any) -> None:
    """Raise ValueError unless every number of a dataclass object is within the bounds of its type hint."""
    hints = typing.get_type_hints(type(given), include_extras=True)
    for field in dataclasses.fields(given):
        if fault := _out_of_bounds(value := getattr(given, field.name), hints[field.name]):
            raise ValueError(f"{field.name}={value}: {fault}")


def _out_of_bounds(value: Any, hint: Any) -> str:
    """Return the numbers that a hint such as Annotated[int, Interval(ge=1, le=9)] allows, or "" if `value` is one.

    An integer without bounds has 64 bits, as torch requires.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    for option in members(hint):
        for bounds in getattr(option, "__metadata__", ()):
            if isinstance(bounds, Interval):
                within = bounds.ge <= value <= bounds.le  # type: ignore[operator]
                return "" if within else f"allowed: {bounds.ge:,} or more, at most {bounds.le:,}"
    huge = isinstance(value, int) and not -(2**63) <= value < 2**63
    return "allowed: integers of 64 bits" if huge else ""


def members(hint: Any) -> tuple[Any, ...]:
    """Return the hints of a union, with their bounds."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the hints of a union, without bounds."""
    return tuple(
        typing.get_args(option)[0] if typing.get_origin(option) is Annotated else option for option in members(hint)
    )


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
            kind = typing.get_origin(option) or option
            names.append(WORDS.get(kind, getattr(kind, "__name__", str(kind))))
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
    """Raise UserError if a nested setting for a file or folder has a name that no file system accepts."""
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


def check_template(name: str, template: str, fields: tuple[str, ...]) -> None:
    """Raise UserError unless `template` is empty or has one or more of these fields, each as its name alone.

    A field's attributes, items, conversions and widths could read other data than its text, or fill the memory.
    """
    allowed = f"allowed: {', '.join(f'{{{field}}}' for field in fields)}, and {{{{ and }}}} for braces"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{name}={template}: {error}; {allowed}") from error
    found = [(field, spec, conversion) for _, field, spec, conversion in parts if field is not None]
    for field, spec, conversion in found:
        if field not in fields or spec or conversion:
            raise UserError(f"{name}={template}: a field is written as its name alone; {allowed}")
    if template and not found:
        raise UserError(f"{name}={template}: has no field; {allowed}")


def check_amount(ratio: float | None, keep: int | None) -> None:
    """Raise UserError unless ratio is in 0..1, keep is not negative, and at most one of them is given."""
    if ratio is not None and keep is not None:
        raise UserError(f"ratio={ratio} and keep={keep}: give one of them, not both")
    if ratio is not None and not 0 <= ratio <= 1:  # also false for nan
        raise UserError(f"ratio={ratio}: the fraction of visual tokens removed; allowed: 0 to 1")
    if keep is not None and keep < 0:
        raise UserError(f"keep={keep}: the number of visual tokens kept; allowed: 0 or more")
