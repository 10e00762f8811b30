"""Overrides as typed; their names are checked before Hydra composes, so that a typo gets its nearest match."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

from vlmprune.config.registry import DESCRIPTION, GROUPS, check_name, read_choice, read_choices
from vlmprune.config.typecheck import FILES, WORDS
from vlmprune.errors import UserError, nearest

CONFIG_MODULE = "vlmprune.configs"
AMOUNT = ("ratio", "keep")
INEFFECTIVE_UNPRUNED = ("positions", "scope", "budget")  # these, too, have no effect where every token is kept
SWEEP_ONLY = ("launcher", "baselines", "fail_fast")  # settings of `vlmprune sweep` that no run has
HYDRA = "outputs= says where runs go, launcher= of vlmprune sweep what starts them, --config-dir where your configs are"
MOST_JOBS = 10_000
LONGEST, MAX_SETTINGS, MAX_CHARACTERS = (
    10_000,
    1_000,
    100_000,
)  # characters of an argument; settings of a command; their characters
QUOTES = "'\""
PLAIN = re.compile(r"[\w/\-+.%*@?|:, ]*", re.ASCII)  # what Hydra takes without quotes


def check_names(overrides: list[str], config_dir: str | None) -> list[str]:
    """Check the key of every override and the choice of every group, and return the groups of a run."""
    keys_of_run = run_keys()
    groups = [key for key in keys_of_run if key in GROUPS]
    chosen: dict[str, str] = {group: str(keys_of_run[group]) for group in groups}
    dotted, added, unknown = [], [], list[str]()
    for override in parse_overrides(overrides):
        key = override.key_or_group
        check_override(override)
        if override.is_sweep_override():
            raise UserError(
                f"'{override.input_line}' names several: use vlmprune sweep, quotes around a comma, or [a,b] for a list"
            )
        if key in GROUPS:
            chosen[key] = check_name(key, str(override.value()), config_dir)
            if override.is_add() or override.is_force_add() or override.package is not None:
                raise UserError(f"'{override.input_line}': there is one {key}; write {key}={chosen[key]}")
            continue
        if key == "experiment":
            raise UserError(f"experiment={override.value()} names several benchmarks: use vlmprune sweep")
        if key.partition(".")[0] in SWEEP_ONLY:
            raise UserError(f"'{override.input_line}' is a setting of sweeps: use vlmprune sweep")
        head, *rest = key.split(".")
        if head not in keys_of_run:
            unknown.append(key)
            continue
        if override.is_add():  # its name is checked with its value
            added.append(override)
        elif rest:
            dotted.append((head, rest[0], key))
        elif isinstance(keys_of_run[head], dict) and isinstance(value := override.value(), dict):
            dotted += [(head, str(name), f"{key}.{name}") for name in value]  # judge={wait: 5} is judge.wait=5
    shown = {group: read_choice(group, chosen[group], config_dir) for group in groups}
    for key in unknown:  # after the groups, whose choices have settings that it may mean
        full = full_name(key, keys_of_run | shown)
        near = f" (did you mean '{full}'?)" if full else nearest(key.partition(".")[0], keys_of_run)
        raise UserError(f"'{key}' is not a setting{near}; allowed: {', '.join(sorted(keys_of_run))}")
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
                near = (
                    nearest(name, allowed) if not (others := _owners(group, name, config_dir)) else f", but of {others}"
                )
                raise UserError(f"'{key}' is not a setting of {group}={chosen[group]}{near}; {there}")
    return groups


def full_name(key: str, settings: dict[str, Any] | None = None) -> str:
    """Return the setting of which `key` is the last part, such as model.dtype for dtype; '' if there is none.

    settings: those of a run, nested; by default with the choices of run.yaml.
    """
    if settings is None:
        keys = run_keys()
        settings = keys | {group: read_choice(group, keys[group]) for group in keys if group in GROUPS}
    if key in settings:
        return key
    sections = (head for head, value in settings.items() if isinstance(value, dict) and key in value)
    return next((f"{head}.{key}" for head in sections if key not in DESCRIPTION), "")


def check_override(override: Any) -> None:
    """Raise UserError for overrides that no command takes: a removed setting, and Hydra's own."""
    if override.key_or_group.partition("/")[0].partition(".")[0] == "hydra":
        raise UserError(f"'{override.input_line}': Hydra's own settings do nothing here; {HYDRA}")
    if override.is_delete():
        raise UserError(f"'{override.input_line}': a setting cannot be removed; allowed: key=value, and key=null")


def _owners(group: str, name: str, config_dir: str | None) -> str:
    """Return the choices of a group that have this setting (for models, their families) as text; '' for none."""
    choices, _ = read_choices(group, config_dir)
    found = {choice: each for choice, each in choices.items() if name in each}
    families = {info["family"] for each in found.values() if "family" in (info := each.get("info") or {})}
    return ", ".join(sorted(families or set(found)))


def _check_new(override: Any, settings: dict[str, Any]) -> None:
    """Raise UserError if `+key=value` would add one of `settings` that has a value already."""
    present: Any = settings
    for name in override.key_or_group.split("."):
        present = present.get(name) if isinstance(present, dict) else None
    if present is not None:
        line = override.input_line
        raise UserError(f"'{line}': there is such a setting already; write {line.lstrip('+')}")


def parse_overrides(overrides: list[str]) -> list[Any]:
    """Return Hydra's overrides of `key=value` texts, in which letters such as é and signs such as ~ need no quotes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    if len(overrides) > MAX_SETTINGS:
        raise UserError(f"{len(overrides):,} settings in one command; allowed: {MAX_SETTINGS:,}")
    if (length := sum(map(len, overrides))) > MAX_CHARACTERS and len(overrides) > 1:
        raise UserError(f"{length:,} characters of settings in one command; allowed: {MAX_CHARACTERS:,}")
    for override in overrides:
        check_length(override)
    try:
        parser = OverridesParser.create()
        return [_parsed(parser, add_quotes(override)) for override in overrides]
    except OverrideParseException as error:
        quotes = "; a value with special characters goes in quotes of its own: \"benchmark.path='/data/é (1)'\""
        raise UserError(f"'{error.override}' is not key=value{quotes if '=' in str(error.override) else ''}") from error


def _parsed(parser: Any, override: str) -> Any:
    """Return Hydra's override of one setting. Raise OverrideParseException, or UserError if Hydra's parser fails."""
    try:
        return parser.parse_overrides([override])[0]
    except RecursionError as error:
        raise UserError(f"'{override}': too many brackets in one another") from error
    except ValueError as error:  # an integer of 5,000 digits
        raise UserError(f"'{override}': {' '.join(str(error).split())}") from error


def check_length(argument: str) -> None:
    """Raise UserError for an argument of more than `LONGEST` characters."""
    if len(argument) > LONGEST:
        raise UserError(f"'{argument[:60]}...': an argument of {len(argument):,} characters; allowed: {LONGEST:,}")


def add_quotes(override: str) -> str:
    """Return `override` with quotes around each of its values that Hydra would refuse for a letter or sign in it.

    A value with quotes, brackets, $ or unprintable characters has another meaning and is not changed.
    """
    key, equals, value = override.partition("=")
    if PLAIN.fullmatch(value) or not value.isprintable() or set(value) & set("'\"\\()[]{}$`"):
        return override
    parts = [part if PLAIN.fullmatch(part) else f"'{part.strip()}'" for part in value.split(",")]
    return f"{key}{equals}{','.join(parts)}"


def first_key(override: str) -> str:
    """Return the first part of a key, such as 'method' of method=cls and of +method.k=3."""
    return override.lstrip("+~").partition("=")[0].partition(".")[0]


def drop_ineffective(overrides: list[str]) -> list[str]:
    """Return the overrides of one run; for method=none without those that have no effect where every token is kept.

    So `method=none,fastv ratio=0.5,0.9 method.k=3` gives one unpruned run, not two impossible ones.
    """
    if "method=none" not in overrides:
        return overrides
    kept = [override for override in overrides if first_key(override) not in ("method", *AMOUNT, *INEFFECTIVE_UNPRUNED)]
    return ["method=none", *kept]


def hydra_error_line(error: Exception) -> str:
    """Return one line about an error of Hydra or OmegaConf in settings whose names are right."""
    from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, MissingMandatoryValue

    key, reason = getattr(error, "full_key", None), str(error).strip().partition("\n")[0]
    if isinstance(error, MissingMandatoryValue):
        place = f"{key}=/folder" if str(key).rpartition(".")[2] in FILES else f"{key}=VALUE"
        return f"{key} is missing: give {place}"
    if isinstance(error, InterpolationResolutionError | InterpolationKeyError):
        return f"{key}: what stands in ${{...}} is unknown ({reason}); allowed: a setting, such as ${{seed}}"
    line = " ".join(str(error).split())
    if (merged := line.removeprefix("Error merging override ")) != line:  # a list for a mapping, or the other way round
        return f"{merged}: expected {WORDS[list if '={' in merged else dict]}"
    return line


def run_keys() -> dict[str, Any]:
    """Return the keys of run.yaml: the groups with their default choice, and the other settings with their values."""
    from importlib.resources import files

    from omegaconf import OmegaConf

    data = OmegaConf.to_container(OmegaConf.load(str(files(CONFIG_MODULE) / "run.yaml")))
    assert isinstance(data, dict)
    entries = [entry for entry in data.pop("defaults") if isinstance(entry, dict)]
    groups = {name: choice for entry in entries for name, choice in entry.items()}
    return {**groups, **{str(key): value for key, value in data.items()}}


def expand_sweep(overrides: list[str], config_dir: str | None = None) -> list[list[str]]:
    """Return one list of plain overrides per job of `method=cls,fastv ratio=0.5,0.9`, by Hydra's sweep grammar.

    A setting that only some of a group's choices have is left out of the jobs of the others: `method=cls,fastv
    method.k=3` is two jobs. Raises UserError for a sweep without values, and for too many jobs.
    """
    from hydra.core.override_parser.types import Glob

    axes = []
    for override in parse_overrides(overrides):
        key = override.get_key_element()
        if not override.is_sweep_override():
            axes.append([override.input_line or ""])
        elif override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            if override.is_range_sweep():
                _check_range(override)
            values = list(override.sweep_string_iterator())
            if override.is_range_sweep():  # 0.1 + 0.2 is 0.30000000000000004
                values = [f"{float(value):.12g}" for value in values]
            axes.append([f"{key}={value}" for value in values])
        else:
            raise UserError(f"'{override.input_line}': a sweep takes values (a,b,c) or a range (range(0,5))")
    if (jobs := math.prod(map(len, axes))) > MOST_JOBS:
        raise UserError(f"{jobs:,} jobs in one sweep; allowed: {MOST_JOBS:,}")
    axes = [[_remove_quotes(item) for item in axis] for axis in axes]
    return _drop_foreign_settings([list(job) for job in itertools.product(*axes)], config_dir)


def _remove_quotes(override: str) -> str:
    """Return method=cls for method='cls', so that the name of a choice has one spelling."""
    key, _, value = override.partition("=")
    return f"{key}={value.strip(QUOTES)}" if key in (*GROUPS, "experiment") else override


def _drop_foreign_settings(jobs: list[list[str]], config_dir: str | None) -> list[list[str]]:
    """Return `jobs` without the settings that their choice of a group lacks and another job's choice has."""
    defaults = run_keys()
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def has(job: list[str], override: str) -> bool:
        group, *names = override.partition("=")[0].split(".")
        (choice,) = [item.partition("=")[2] for item in job if item.startswith(f"{group}=")][-1:] or [defaults[group]]
        if (group, choice) not in known:
            known[group, choice] = read_choice(group, choice, config_dir)
        there: Any = known[group, choice]
        for name in names:
            if isinstance(there, dict) and name not in there:
                return False
            there = there[name] if isinstance(there, dict) else None  # a part given by its name, as in compose
        return True

    own = {item for job in jobs for item in job if "." in item.partition("=")[0] and item.partition(".")[0] in GROUPS}
    keys = {item.partition("=")[0] for item in own}
    some = {key for key in keys if any(has(job, key) for job in jobs)}
    kept = [[item for item in job if item.partition("=")[0] not in some or has(job, item)] for job in jobs]
    return [list(job) for job in dict.fromkeys(map(tuple, kept))]


def _check_range(override: Any) -> None:
    """Raise UserError unless a range is finite and has at least one value."""
    found, line = override.value(), override.input_line
    if not all(map(math.isfinite, (found.start, found.stop, found.step))) or found.step == 0:
        raise UserError(f"'{line}': has no end; expected range(first, end, step) of numbers, the step not 0")
    count = math.ceil((found.stop - found.start) / found.step)
    if count < 1:
        raise UserError(f"'{line}': names no value; expected range(first, end, step), where a step leads to the end")
    if count > MOST_JOBS:
        raise UserError(f"'{line}': names {count:,} values; allowed: {MOST_JOBS:,} jobs in one sweep")
