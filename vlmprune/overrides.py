"""Overrides as typed: names are checked before Hydra composes, so that a typo gets its nearest match."""

from __future__ import annotations

import itertools
import math
from typing import Any

from vlmprune.errors import UserError, choose, nearest
from vlmprune.registry import DESCRIPTION, GROUPS, options, read
from vlmprune.schema import FILES

CONFIG_MODULE = "vlmprune.configs"
AMOUNT = ("ratio", "keep")
UNUSED = ("positions", "scope", "budget")  # these, too, mean nothing where every token is kept
SWEEP_ONLY = ("launcher", "baselines", "fail_fast")  # settings of `vlmprune sweep` that no run has
HYDRA = "outputs= says where runs go, launcher= of vlmprune sweep what starts them, --config-dir where your configs are"
MOST_JOBS = 10_000


def check_names(overrides: list[str], config_dir: str | None) -> list[str]:
    """Check every override's key and, where it picks a choice, the choice. Returns the groups of a run."""
    keys_of_run = run_keys()
    groups = [key for key in keys_of_run if key in GROUPS]
    chosen: dict[str, str] = {group: str(keys_of_run[group]) for group in groups}
    dotted, added = [], []
    for override in parse_overrides(overrides):
        key = override.key_or_group
        if key.partition("/")[0].partition(".")[0] == "hydra":
            raise UserError(f"'{override.input_line}': Hydra's own settings do nothing here; {HYDRA}")
        if override.is_delete():
            raise UserError(f"'{override.input_line}': a setting cannot be removed; allowed: key=value, and key=null")
        if override.is_sweep_override():
            raise UserError(f"'{override.input_line}' names several values: use vlmprune sweep")
        if key in GROUPS:
            chosen[key] = choose(str(override.value()), options(key, config_dir), key)
            if override.is_add() or override.is_force_add() or override.package is not None:
                raise UserError(f"'{override.input_line}': there is one {key}; write {key}={chosen[key]}")
            continue
        if key == "experiment":
            raise UserError(f"experiment={override.value()} names several benchmarks: use vlmprune sweep")
        if key.partition(".")[0] in SWEEP_ONLY:
            raise UserError(f"'{override.input_line}' is a setting of sweeps: use vlmprune sweep")
        head, *rest = key.split(".")
        if head not in keys_of_run:
            keys = ", ".join(sorted(keys_of_run))
            raise UserError(f"'{key}' is not a setting{nearest(head, keys_of_run)}; allowed: {keys}")
        if override.is_add():  # its name is checked with its value
            added.append(override)
        elif rest:
            dotted.append((head, rest[0], key))
    shown = {group: read(group, chosen[group], config_dir) for group in groups}
    for override in added:
        _check_new(override, keys_of_run | shown)
    for group, name, key in dotted:
        if group not in groups and not isinstance(keys_of_run[group], dict):
            raise UserError(f"'{key}' is not a setting: {group} is one value; write {group}=")
        if isinstance(keys_of_run[group], dict) and name not in keys_of_run[group]:
            allowed = sorted(keys_of_run[group])
            raise UserError(f"'{key}' is not a setting{nearest(name, allowed)}; allowed: {', '.join(allowed)}")
        if group in groups:
            allowed = [each for each in shown[group] if each not in DESCRIPTION]
            if name not in allowed:
                there = f"allowed: {', '.join(sorted(allowed))}" if allowed else "it has no settings"
                raise UserError(f"'{key}' is not a setting of {group}={chosen[group]}{nearest(name, allowed)}; {there}")
    return groups


def _check_new(override: Any, settings: dict[str, Any]) -> None:
    """Raise a UserError where `+key=value` is to add one of `settings` that has a value."""
    present: Any = settings
    for name in override.key_or_group.split("."):
        present = present.get(name) if isinstance(present, dict) else None
    if present is not None:
        line = override.input_line
        raise UserError(f"'{line}': there is such a setting already; write {line.lstrip('+')}")


def parse_overrides(overrides: list[str]) -> list[Any]:
    """Hydra's own reading of `key=value`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        quotes = "; a value with special characters goes in quotes of its own: \"benchmark.path='/data/é (1)'\""
        raise UserError(f"'{error.override}' is not key=value{quotes if '=' in str(error.override) else ''}") from error


def group_of(override: str) -> str:
    """'method' of method=cls and of +method.k=3."""
    return override.lstrip("+").partition("=")[0].partition(".")[0]


def without_unused(overrides: list[str]) -> list[str]:
    """Overrides of one run; of the unpruned model's without what means nothing where every token is kept.

    So `method=none,fastv ratio=0.5,0.9 method.k=3` means one unpruned run, not two impossible ones.
    """
    if "method=none" not in overrides:
        return overrides
    kept = [override for override in overrides if group_of(override) not in ("method", *AMOUNT, *UNUSED)]
    return ["method=none", *kept]


def explain(error: Exception) -> str:
    """In one line, why Hydra or OmegaConf cannot compose what the names of were right."""
    from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, MissingMandatoryValue

    key, reason = getattr(error, "full_key", None), str(error).strip().partition("\n")[0]
    if isinstance(error, MissingMandatoryValue):
        place = f"{key}=/folder" if str(key).rpartition(".")[2] in FILES else f"{key}=VALUE"
        return f"{key} is missing: give {place}"
    if isinstance(error, InterpolationResolutionError | InterpolationKeyError):
        return f"{key}: what stands in ${{...}} is unknown ({reason}); allowed: a setting, such as ${{seed}}"
    return " ".join(str(error).split())


def run_keys() -> dict[str, Any]:
    """Keys of run.yaml: the groups with their default choice, and the scalars."""
    from importlib.resources import files

    from omegaconf import OmegaConf

    data = OmegaConf.to_container(OmegaConf.load(str(files(CONFIG_MODULE) / "run.yaml")))
    assert isinstance(data, dict)
    entries = [entry for entry in data.pop("defaults") if isinstance(entry, dict)]
    groups = {name: choice for entry in entries for name, choice in entry.items()}
    return {**groups, **{str(key): value for key, value in data.items()}}


def expand_sweep(overrides: list[str]) -> list[list[str]]:
    """`method=cls,fastv ratio=0.5,0.9` -> one list of plain overrides per job, in Hydra's own sweep grammar.

    Raises UserError for what names no values, or too many jobs.
    """
    from hydra.core.override_parser.types import Glob

    axes = []
    for override in parse_overrides(overrides):
        if not override.is_sweep_override():
            axes.append([override.input_line or ""])
        elif override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            if override.is_range_sweep():
                _check_range(override)
            values = list(override.sweep_string_iterator())
            if override.is_range_sweep():  # 0.1 + 0.2 is 0.30000000000000004
                values = [f"{float(value):.12g}" for value in values]
            axes.append([f"{override.get_key_element()}={value}" for value in values])
        else:
            raise UserError(f"'{override.input_line}': a sweep takes values (a,b,c) or a range (range(0,5))")
    if (jobs := math.prod(map(len, axes))) > MOST_JOBS:
        raise UserError(f"{jobs:,} jobs in one sweep; allowed: {MOST_JOBS:,}")
    return [list(job) for job in itertools.product(*axes)]


def _check_range(override: Any) -> None:
    """Raise a UserError unless a range has an end and a first value."""
    found, line = override.value(), override.input_line
    if not all(map(math.isfinite, (found.start, found.stop, found.step))) or found.step == 0:
        raise UserError(f"'{line}': has no end; expected range(first, end, step) of numbers, the step not 0")
    count = math.ceil((found.stop - found.start) / found.step)
    if count < 1:
        raise UserError(f"'{line}': names no value; expected range(first, end, step), where a step leads to the end")
    if count > MOST_JOBS:
        raise UserError(f"'{line}': names {count:,} values; allowed: {MOST_JOBS:,} jobs in one sweep")
