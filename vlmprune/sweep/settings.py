"""Settings of a sweep beside those of its runs: baselines, fail_fast, and the launcher with its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprune.arguments import read_settings
from vlmprune.errors import UserError, choose
from vlmprune.overrides import SWEEP_ONLY, parse_overrides
from vlmprune.registry import DESCRIPTION, options, read, target_class, target_of
from vlmprune.schema import check_type, construct

if TYPE_CHECKING:
    from vlmprune.launchers.base import Launcher


@dataclass(frozen=True)
class SweepSettings:
    """The settings by kind. of_runs: overrides of the runs as typed; launcher: its name; launcher_settings: launcher.*
    without the prefix."""

    of_runs: list[str]
    baselines: bool
    fail_fast: bool
    launcher: str
    launcher_settings: dict[str, Any]


def split_settings(settings: list[str], config_dir: str | None) -> SweepSettings:
    """Split `settings` into those of the sweep and those of its runs. Raise UserError if the former are invalid."""
    of_runs: list[str] = []
    own: dict[str, Any] = {"baselines": True, "fail_fast": False, "launcher": "inprocess"}
    for override in parse_overrides(settings):
        key, line = override.key_or_group, override.input_line
        if key.startswith("hydra/launcher"):
            raise UserError(f"'{line}': jobs are launched by vlmprune itself; {_launchers(config_dir)}")
        if key.partition(".")[0] not in SWEEP_ONLY:
            of_runs.append(line)
        elif override.is_sweep_override():
            raise UserError(f"'{line}': a sweep has one {key}, not several")
        else:
            own |= read_settings([line], "sweep", one=[key])
    for name in ("baselines", "fail_fast"):
        if not isinstance(own[name], bool):
            raise UserError(f"{name}={own[name]}: allowed: true, false")
    choose(str(own["launcher"]), options("launcher", config_dir), "launcher")
    dotted = {key.removeprefix("launcher."): value for key, value in own.items() if key.startswith("launcher.")}
    return SweepSettings(of_runs, own["baselines"], own["fail_fast"], str(own["launcher"]), dotted)


def _launchers(config_dir: str | None) -> str:
    return "allowed: " + ", ".join(f"launcher={name}" for name in sorted(options("launcher", config_dir)))


def build_launcher(settings: SweepSettings, config_dir: str | None) -> Launcher:
    """Build the launcher of the config group. Raise UserError for invalid settings or a missing optional package."""
    from vlmprune.launchers.base import Launcher

    config = read("launcher", settings.launcher, config_dir)
    given = {key: value for key, value in config.items() if key not in DESCRIPTION}
    for key, value in settings.launcher_settings.items():
        field, _, inner = key.partition(".")
        if inner:  # launcher.extra.constraint=a100
            check_type(f"launcher.{field}", given.get(field), dict)
            given[field] = given[field] | {inner: value}
        else:
            given[field] = value
    target = target_of(config, f"launcher={settings.launcher}")
    return construct(target_class(target, Launcher), given, "launcher.")
