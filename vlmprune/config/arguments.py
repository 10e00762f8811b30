"""Arguments of the commands: a dataclass each, from which parsing, errors, help and completion follow.

A field's type says how it is typed:

    name: T                    the setting name=VALUE; a last _ is not part of the name (from_)
    name: tuple[T, ...]        the same with one or several values
    name: a dataclass          a group of settings, name.FIELD=VALUE
    name: bool                 the option --name, or -n for a name of one letter
    config_dir: ConfigDir      the option --config-dir
    Annotated[..., OfRun()]    settings of a run, kept as typed
    Annotated[..., Words()]    arguments that are no settings: files, folders, a question

Annotated also holds the text for --help, and a Literal for choices that are data. Values are in Hydra's syntax.
"""

from __future__ import annotations

import os
import re
import sys
import typing
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from vlmprune.config.overrides import (
    MAX_SETTINGS,
    check_override,
    expand_sweep,
    full_name,
    hydra_error_line,
    parse_overrides,
)
from vlmprune.config.typecheck import check_file_names, check_type, construct, members
from vlmprune.errors import UserError, check_choice
from vlmprune.files import expand_path
from vlmprune.terminal import say

SETTING = re.compile(r"\+*[\w.@/]+=")  # for commands of which another argument may be a question with = in it
ConfigDir = Annotated[str | None, "the folder of your own configs: DIR/method/mine.yaml adds method=mine"]
Settings = TypeVar("Settings")


class OfRun(tuple[str, ...]):
    """Mark of the field for settings of a run: the names that the command takes, () for all."""


class Endings(tuple[str, ...]):
    """Mark of a path whose name ends in one of these."""


@dataclass(frozen=True)
class Words:
    """Mark of the field for arguments that are no settings. questions: they may have = in them.

    names: other words than its choices are allowed; the command checks them.
    """

    questions: bool = False
    names: bool = False


@dataclass(frozen=True)
class Argument:
    """A field of a command's dataclass. hint: its type without Annotated, of one value; marks: what Annotated adds."""

    name: str
    hint: Any
    several: bool
    marks: tuple[Any, ...]
    default: Any

    def mark(self, kind: type) -> Any:
        """Return the mark of a kind; None if there is none."""
        return next((each for each in self.marks if isinstance(each, kind)), None)

    @property
    def choices(self) -> list[str]:
        """The words that the value may be; [] if it is not limited to a few."""
        literals = [each for each in (*members(self.hint), *self.marks) if typing.get_origin(each) is Literal]
        return [str(word) for each in literals for word in typing.get_args(each)]

    @property
    def group(self) -> Any:
        """The dataclass of a group of settings; None if it is no group."""
        return next(filter(is_dataclass, members(self.hint)), None)

    @property
    def option(self) -> str:
        """The option, "" if it is none."""
        name = self.name.replace("_", "-") if self.hint is bool or self.name == "config_dir" else ""
        return "-" * min(len(name), 2) + name

    @property
    def keys(self) -> list[str]:
        """The settings, as they are typed; [] if it holds none, or all of a run."""
        if (names := self.mark(OfRun)) is not None or self.option or self.mark(Words) is not None:
            return list(names or ())
        key = self.name.rstrip("_")
        return [key] if self.group is None else [f"{key}.{inner.name}" for inner in fields(self.group)]

    @property
    def text(self) -> str:
        """Its meaning for --help: the allowed values, then its text."""
        words = ", ".join([*(self.mark(Endings) or ()), *(self.mark(OfRun) or ()), *self.choices])
        return "; ".join(filter(None, [words, self.mark(str)]))

    def line(self, key: str) -> str:
        """Return key=VALUE for --help, with the default value if there is one."""
        if self.several or self.default not in (None, MISSING):
            return f"{key}={'' if self.several else self.default}"
        return f"{key}={'PATH' if Path in members(self.hint) else 'TEXT'}"

    def read(self, value: Any) -> Any:
        """Return a value of its type. Raise UserError with what is allowed and the nearest match."""
        (key,), optional = self.keys, type(None) in members(self.hint)
        if value in self.choices or (value is None and optional):
            return value
        if Path in members(self.hint):
            check_type(key, value, str | None if optional else str)
            check_file_names({key: value})
            if not value:
                raise UserError(f"{key}= is empty: expected the name of a file or folder")
            endings = self.mark(Endings)
            if endings is not None and Path(value).suffix.lower() not in endings:
                raise UserError(f"{key}={value}: allowed: a file name that ends in {' or '.join(endings)}")
            return expand_path(key, value)
        if self.choices:
            check_choice(str(value), self.choices, key.removesuffix("s"))
        check_type(key, value, self.hint)
        return value


def read_fields(settings: type) -> list[Argument]:
    """Return the fields of a command's dataclass, or of a group of settings in it."""
    hints, full = typing.get_type_hints(settings), typing.get_type_hints(settings, include_extras=True)
    found = []
    for field in fields(settings):
        hint, parts = hints[field.name], (full[field.name], *typing.get_args(full[field.name]))
        marks = tuple(mark for part in parts for mark in getattr(part, "__metadata__", ()))  # X | None has them in X
        several = typing.get_origin(hint) is tuple
        found.append(Argument(field.name, typing.get_args(hint)[0] if several else hint, several, marks, field.default))
    return found


def parse(command: str, settings: type[Settings], arguments: Iterable[str]) -> Settings:
    """Return a command's dataclass with the values of its arguments.

    Of a setting given twice the last counts, and a line says so; values of a setting that takes several are united.
    Raises UserError for all that was not declared.
    """
    declared = read_fields(settings)
    values, lines = _split(declared, arguments)
    keys = {key: each for each in declared for key in each.keys}
    run = next((each for each in declared if each.mark(OfRun) == ()), None)
    for line, override in zip(lines, parse_overrides(lines) if lines else [], strict=True):
        key, head = override.key_or_group, override.key_or_group.partition(".")[0]
        argument = keys.get(head, run)
        if argument is not None and argument.mark(OfRun) is not None:
            values[argument.name] = (*values.get(argument.name, ()), line)
            continue
        allowed = [each for each in keys if each.startswith(f"{head}.")] or keys
        if key not in allowed and (full := full_name(key)) and full.partition(".")[0] in keys:
            there = ", ".join(sorted(keys))
            raise UserError(f"setting of {command} '{key}' does not exist (did you mean '{full}'?); allowed: {there}")
        argument = keys[check_choice(key, allowed, f"setting of {command}")]
        found = read_values(override)
        if argument.several:
            values[argument.name] = (*values.get(argument.name, ()), *map(argument.read, found))
        elif len(found) > 1:
            raise UserError(f"'{line}' names several values: {key} is one")
        elif argument.group is not None:
            values.setdefault(argument.name, {})[key.removeprefix(f"{head}.")] = found[0]
        else:
            values[argument.name] = argument.read(found[0])
    for each in declared:
        if each.group is not None and each.name in values:
            values[each.name] = construct(each.group, values[each.name], f"{each.name}.")
    return settings(**values)


def _split(declared: list[Argument], arguments: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of options and words by field, and the settings. Raise UserError for unknown options."""
    options = {each.option: each.name for each in declared if each.option}
    field = next((each for each in declared if each.mark(Words) is not None), None)
    # A question may have = in it, the name of a file too, and where nothing is set there is no setting.
    setting = SETTING if field is not None and field.mark(Words).questions else re.compile(".*=", re.DOTALL)
    has_settings = any(each.keys or each.mark(OfRun) is not None for each in declared)
    values, lines, words = dict[str, Any](), list[str](), list[str]()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--config-dir" and name in options:
            values["config_dir"] = _find_folder(name, value if equals else next(rest, ""))
        elif argument.startswith("-"):
            if argument not in options:
                _check_no_setting(name, value if equals else next(rest, ""), declared)
            values[options[check_choice(argument, [*options, "--help"], "option")]] = True
        elif field is None or (has_settings and setting.match(argument) and not os.path.exists(argument)):
            lines.append(argument)
        else:
            words.append(argument)
    if field is not None:
        words = words if field.several else [" ".join(words)]
        if not field.mark(Words).names:
            words = [check_choice(each, field.choices or words, field.name.removesuffix("s")) for each in words]
        values[field.name] = tuple(words) if field.several else words[0]
    return values, _drop_repeated(lines, {each.name for each in declared if each.several})


def _check_no_setting(option: str, value: str, declared: list[Argument]) -> None:
    """Raise UserError for --method cls and --max-new-tokens=8, with the setting to write instead."""
    key = option.lstrip("-").replace("-", "_")
    own = [each for argument in declared for each in argument.keys]
    if key not in own:
        key = full_name(key) if any(each.mark(OfRun) is not None for each in declared) else ""
    if key:
        raise UserError(f"{option}: settings have no dashes; write {key}={value or 'VALUE'}")


def _find_folder(option: str, given: str) -> str:
    """Return the path of a config folder, and let the package beside it be imported."""
    if not given:
        raise UserError(f"{option}: name a folder, such as {option}=configs")
    folder = str(expand_path(option, given))
    if not os.path.isdir(folder):
        raise UserError(f"{option} '{folder}': no such folder")
    folder = os.path.abspath(folder)
    sys.path.insert(0, os.path.dirname(folder))  # the user's package is beside the config folder
    return folder


def _drop_repeated(lines: list[str], several: set[str]) -> list[str]:
    """Return the settings without those that a later one repeats; print a line for each of these.

    The last one counts as in Hydra, so that a user can append settings to those of a script.
    """
    if len(lines) > MAX_SETTINGS:
        raise UserError(f"{len(lines):,} settings in one command; allowed: {MAX_SETTINGS:,}")
    keys = [line.partition("=")[0].lstrip("+") for line in lines]
    last = {key: place for place, key in enumerate(keys)}
    kept = []
    for place, (key, line) in enumerate(zip(keys, lines, strict=True)):
        if place == last[key] or key in several:
            kept.append(line)
        else:
            say(f"{line} is not used: {lines[last[key]]} comes after it")
    return kept


def read_values(override: Any) -> list[Any]:
    """Return the values of a setting of a command's own, which is one of Hydra's overrides: several for a,b.

    Quotes, null, numbers and ${...} mean the same as in `vlmprune run`.
    """
    check_override(override)
    key, line = override.key_or_group, override.input_line
    if override.is_add() or override.package is not None:
        raise UserError(f"'{line}': there is such a setting already; write {key}=")
    return [_resolved(key, parse_overrides(job)[0].value()) for job in expand_sweep([line])]


def _resolved(key: str, value: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        data = OmegaConf.to_container(OmegaConf.create({key: value}), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(hydra_error_line(error)) from error
    assert isinstance(data, dict)
    return data[key]


def describe(settings: type) -> str:
    """Return the lines of --help for the settings and options of a command that have a text, a line for each."""
    rows = []
    for each in read_fields(settings):
        if each.option:
            rows.append((each.option + " DIR" * (each.name == "config_dir"), each.text))
        elif each.mark(OfRun) is not None:
            rows.append(("NAME=VALUE", each.text))
        else:
            inner = [each] if each.group is None else read_fields(each.group)
            rows += [(one.line(key), one.text) for key, one in zip(each.keys, inner, strict=bool(each.keys))]
    rows = [(left, text) for left, text in rows if text]
    column = max((len(left) for left, _ in rows), default=0) + 5
    return "\n".join(f"  {left}".ljust(column) + text for left, text in rows)
