"""Arguments of a command: settings, in Hydra's syntax for every command, and other words such as file names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from vlmprune.config.overrides import MAX_SETTINGS, check_override, expand_sweep, hydra_error_line, parse_overrides
from vlmprune.errors import UserError, check_choice
from vlmprune.terminal import say

SETTING = re.compile(r"\+*[\w.@/]+=")  # for commands of which another argument may be a question with = in it


def split_arguments(arguments: Iterable[str], questions: bool = False) -> tuple[list[str], list[str]]:
    """Return the settings among a command's arguments, and the others: names of files and folders, words, options.

    questions: an argument may be a question, which is not a setting even if it has = in it.
    """
    settings: list[str] = []
    others: list[str] = []
    for argument in arguments:
        like = SETTING.match(argument) if questions else "=" in argument and not argument.startswith("-")
        (settings if like and not os.path.exists(argument) else others).append(argument)  # a file's name may have =
    return settings, others


def drop_repeated(settings: list[str]) -> list[str]:
    """Return the settings of a run or a sweep without those that a later one repeats; print a line for each of these.

    The last one counts as in Hydra, so that a user can append settings to those of a script.
    """
    keys: list[Any] = [
        setting.partition("=")[0].lstrip("+") if SETTING.match(setting) else place  # a file may be named twice
        for place, setting in enumerate(settings)
    ]
    if (count := sum(isinstance(key, str) for key in keys)) > MAX_SETTINGS:
        raise UserError(f"{count:,} settings in one command; allowed: {MAX_SETTINGS:,}")
    last = {key: place for place, key in enumerate(keys)}
    for place, (key, setting) in enumerate(zip(keys, settings, strict=True)):
        if place < last[key]:
            say(f"{setting} is not used: {settings[last[key]]} comes after it")
    return [settings[place] for place in sorted(last.values())]


def read_settings(settings: list[str], command: str, one: Iterable[str], several: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values of a command's own settings by key; for keys in `several` a list of all given values.

    Quotes, null, numbers and ${...} mean the same as in `vlmprune run`. Raises UserError for a key that is in neither
    `one` nor `several`, for a key of `one` given twice or with several values, and for anything but key=value.
    """
    values: dict[str, Any] = {}
    for override in parse_overrides(settings):
        key, line = override.key_or_group, override.input_line
        check_choice(key, {*one, *several}, f"setting of {command}")
        check_override(override)
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
        raise UserError(hydra_error_line(error)) from error
    assert isinstance(data, dict)
    return data[key]
