"""Overrides as typed: names are checked before Hydra composes, so that a typo gets its nearest match."""

from __future__ import annotations

from typing import Any

from vlmprune.errors import UserError, choose, nearest
from vlmprune.registry import GROUPS, options, read

CONFIG_MODULE = "vlmprune.configs"
SWEEP_ONLY = ("launcher", "baselines", "fail_fast")  # settings of `vlmprune sweep` that no run has


def check_names(overrides: list[str], config_dir: str | None) -> list[str]:
    """Check every override's key and, where it picks a choice, the choice. Returns the groups of a run."""
    keys_of_run = run_keys()
    groups = [key for key in keys_of_run if key in GROUPS]
    chosen: dict[str, str] = {group: str(keys_of_run[group]) for group in groups}
    dotted = []
    for override in parse_overrides(overrides):
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if override.is_delete():
            raise UserError(f"'{override.input_line}': a setting cannot be removed; allowed: key=value, and key=null")
        if override.is_sweep_override():
            raise UserError(f"'{override.input_line}' names several values: use vlmprune sweep")
        if key in GROUPS:
            if key in groups:
                chosen[key] = choose(str(override.value()), options(key, config_dir), key)
            continue
        if key == "experiment":
            raise UserError(f"experiment={override.value()} names several benchmarks: use vlmprune sweep")
        if key.partition(".")[0] in SWEEP_ONLY:
            raise UserError(f"'{override.input_line}' is a setting of sweeps: use vlmprune sweep")
        head, *rest = key.split(".")
        if head not in keys_of_run:
            keys = ", ".join(sorted(keys_of_run))
            raise UserError(f"'{key}' is not a setting{nearest(head, keys_of_run)}; allowed: {keys}")
        if rest and not override.is_add():
            dotted.append((head, rest[0], key))
    shown = {group: read(group, chosen[group], config_dir) for group in groups}
    for group, name, key in dotted:
        if isinstance(keys_of_run[group], dict) and name not in keys_of_run[group]:
            allowed = sorted(keys_of_run[group])
            raise UserError(f"'{key}' is not a setting{nearest(name, allowed)}; allowed: {', '.join(allowed)}")
        if group in groups:
            allowed = [each for each in shown[group] if each not in ("_target_", "info")]
            if name not in allowed:
                raise UserError(
                    f"'{key}' is not a setting of {group}={chosen[group]}{nearest(name, allowed)}; "
                    f"allowed: {', '.join(sorted(allowed)) or 'none'}"
                )
    return groups


def parse_overrides(overrides: list[str]) -> list[Any]:
    """Hydra's own reading of `key=value`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        quotes = "; a value with special characters goes in quotes of its own: \"benchmark.path='/data/é (1)'\""
        raise UserError(f"'{error.override}' is not key=value{quotes if '=' in str(error.override) else ''}") from error


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
    """`method=cls,fastv ratio=0.5,0.9` -> one list of plain overrides per job, in Hydra's own sweep grammar."""
    import itertools

    from hydra.core.override_parser.types import Glob

    axes = []
    for override in parse_overrides(overrides):
        if not override.is_sweep_override():
            axes.append([override.input_line or ""])
        elif override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            values = list(override.sweep_string_iterator())
            if override.is_range_sweep():  # 0.1 + 0.2 is 0.30000000000000004
                values = [f"{float(value):.12g}" for value in values]
            axes.append([f"{override.get_key_element()}={value}" for value in values])
        else:
            raise UserError(f"'{override.input_line}': a sweep takes values (a,b,c) or a range (range(0,5))")
    return [list(job) for job in itertools.product(*axes)]
