"""What a command is told: settings apart from files and words. Every command reads a setting as Hydra writes it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from vlmprune.errors import UserError, choose
from vlmprune.overrides import check_written, expand_sweep, explain, parse_overrides

SETTING = re.compile(r"\+*[\w.@/]+=")  # where another argument may be a question


def split_arguments(arguments: Iterable[str], questions: bool = False) -> tuple[list[str], list[str]]:
    """Return the settings among a command's arguments, and the others: names of files and folders, words, options.

    questions: a question is one of the others, whatever it has of = in it.
    """
    settings: list[str] = []
    others: list[str] = []
    for argument in arguments:
        like = SETTING.match(argument) if questions else "=" in argument and not argument.startswith("-")
        (settings if like and not os.path.exists(argument) else others).append(argument)  # a file may have = too
    return settings, others


def check_once(settings: list[str]) -> None:
    """Raise a UserError where a setting is given twice: Hydra would drop the first without a word."""
    keys = [setting.partition("=")[0].lstrip("+") for setting in settings]
    times = Counter(keys)
    for setting, key in zip(settings, keys, strict=True):
        if times[key] > 1 and SETTING.match(setting):
            raise UserError(f"{settings[len(keys) - 1 - keys[::-1].index(key)]}: {key}= is given twice")


def read_settings(settings: list[str], command: str, one: Iterable[str], several: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values of a command's own settings by key; of those in `several` a list of all that are given.

    Quotes, null, numbers and ${...} mean what they mean to `vlmprune run`. Raises UserError for a key that is in
    neither, for a key of `one` that is given twice or has several values, and for what is not key=value.
    """
    values: dict[str, Any] = {}
    for override in parse_overrides(settings):
        key, line = override.key_or_group, override.input_line
        choose(key, (*one, *several), f"setting of {command}")
        check_written(override)
        if override.is_add() or override.package is not None:
            raise UserError(f"'{line}': there is such a setting already; write {key}=")
        given = [_resolved(key, parse_overrides(job)[0].value()) for job in expand_sweep([line])]
        if key in several:
            values.setdefault(key, []).extend(given)
        elif len(given) > 1:
            raise UserError(f"'{line}' names several values: {key} is one")
        elif key in values:
            raise UserError(f"{line}: {key}= is given twice")
        else:
            values[key] = given[0]
    return values


def _resolved(key: str, value: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        data = OmegaConf.to_container(OmegaConf.create({key: value}), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(data, dict)
    return data[key]
