"""The jobs of a sweep, composed and checked with their baselines, and the sweep's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprune.config.arguments import read_values
from vlmprune.config.overrides import (
    AMOUNT,
    QUOTES,
    SWEEP_ONLY,
    add_quotes,
    check_override,
    drop_ineffective,
    expand_sweep,
    first_key,
    parse_overrides,
    run_keys,
)
from vlmprune.config.registry import DESCRIPTION, find_choices, read_choice, target_class, target_of
from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.config.typecheck import check_type, construct
from vlmprune.errors import UserError, check_choice, nearest
from vlmprune.results.sweep_record import JobRecord

if TYPE_CHECKING:
    from vlmprune.evaluation.plan import Plan
    from vlmprune.launchers.base import Launcher


@dataclass
class Job:
    """One combination. is_added: True for a baseline that was not requested. finished: its run has a result already.

    common: the overrides of all jobs of the sweep, which its title leaves out. plan: of its run, once `check_jobs` has
    made it; None if that depends on another machine.
    """

    overrides: list[str]
    config: RunConfig
    record: JobRecord
    common: frozenset[str]
    is_added: bool = False
    finished: bool = False
    plan: Plan | None = None

    @property
    def title(self) -> str:
        return self.record.title

    def replace_config(self, config: RunConfig) -> None:
        """Be the job of `config`, which has fewer settings."""
        left = [override for override in self.overrides if add_quotes(override) in config.overrides]
        self.config = config
        self.overrides = self.record.overrides = left
        self.record.title = _title(left, self.common)


def plan_jobs(settings: list[str], config_dir: str | None, baselines: bool = True) -> list[Job]:
    """Return all combinations of `settings`, composed and checked, baselines first. Raise UserError for bad input.

    The baselines are the unpruned model, and random pruning by the same amounts; `check_jobs` replaces those of the
    latter that keep other numbers of tokens.
    """
    asked = expand_sweep(with_experiment(settings, config_dir), config_dir)
    added = _baselines(asked) if baselines else []
    asked = [drop_ineffective(overrides) for overrides in asked]
    wanted = {tuple(sorted(overrides)) for overrides in asked}
    unique = {tuple(sorted(overrides)): overrides for overrides in [*added, *asked]}
    common = frozenset(set.intersection(*map(set, unique.values())))
    return [_job(overrides, common, config_dir, key not in wanted) for key, overrides in unique.items()]


def _job(overrides: list[str], common: frozenset[str], config_dir: str | None, is_added: bool) -> Job:
    config = compose_run(overrides, config_dir)
    names, title = config.names, _title(overrides, common)
    record = JobRecord(title, overrides, names["model"], names["method"], names["benchmark"], config.ratio, config.keep)
    return Job(overrides, config, record, common, is_added)


def _title(overrides: list[str], common: frozenset[str]) -> str:
    own = [override for override in overrides if override not in common or override.startswith("method=")]
    return " ".join(own or overrides) or "defaults"


def shared_settings(job: Job) -> list[str]:
    """Return the settings that a job shares with the random pruning that it is compared with: not those of its method,
    and not the amount."""
    return [override for override in job.overrides if first_key(override) not in ("method", *AMOUNT, "budget")]


def random_job(job: Job, ratio: str) -> Job:
    """Return random pruning at `ratio` with the settings of `job`, as an added job."""
    overrides = ["method=random", f"ratio={ratio}", *shared_settings(job)]
    return _job(overrides, job.common, job.config.config_dir, is_added=True)


def with_experiment(settings: list[str], config_dir: str | None) -> list[str]:
    """Return `settings` with `experiment=NAME` replaced by that preset's overrides; other `settings` override these."""
    names = [setting.partition("=")[2].strip(QUOTES) for setting in settings if setting.startswith("experiment=")]
    own = [setting for setting in settings if not setting.startswith("experiment=")]
    given = {setting.partition("=")[0] for setting in own}
    preset = [override for name in names for override in read_choice("experiment", name, config_dir)["overrides"]]
    return [override for override in preset if override.partition("=")[0] not in given] + own


def _baselines(combinations: list[list[str]]) -> list[list[str]]:
    """Return the overrides of every combination's unpruned run, and of random pruning by its amount if it has one."""
    added = []
    for overrides in combinations:
        plain = [override for override in overrides if first_key(override) != "method"]
        added.append(drop_ineffective(["method=none", *(each for each in plain if first_key(each) != "seed")]))
        if any(first_key(override) in AMOUNT for override in plain):
            added.append(["method=random", *plain])
    return added


@dataclass(frozen=True)
class SweepSettings:
    """The settings by kind. run_overrides: overrides of the runs as typed; launcher: its name; launcher_settings:
    launcher.* without the prefix."""

    run_overrides: list[str]
    launcher_settings: dict[str, Any]
    baselines: bool = True
    fail_fast: bool = False
    launcher: str = "inprocess"


def split_settings(settings: list[str], config_dir: str | None) -> SweepSettings:
    """Split `settings` into those of the sweep and those of its runs. Raise UserError if the former are invalid."""
    run_overrides: list[str] = []
    own: dict[str, Any] = {}
    known = {*run_keys(), *SWEEP_ONLY, "experiment"}
    for override in parse_overrides(settings):
        key, line = override.key_or_group, override.input_line
        if key.startswith("hydra/launcher"):
            raise UserError(f"'{line}': jobs are launched by vlmprune itself; {_launchers(config_dir)}")
        check_override(override)
        if (head := key.partition(".")[0]) not in known:
            raise UserError(f"'{key}' is not a setting{nearest(head, known)}; allowed: {', '.join(sorted(known))}")
        if head not in SWEEP_ONLY:
            run_overrides.append(line)
        elif override.is_sweep_override():
            raise UserError(f"'{line}': a sweep has one {key}, not several")
        else:
            check_choice(key, [key] if key.startswith("launcher.") else SWEEP_ONLY, "setting of sweep")
            (own[key],) = read_values(override)
    for name in ("baselines", "fail_fast"):
        if not isinstance(own.get(name, True), bool):
            raise UserError(f"{name}={own[name]}: allowed: true, false")
    if "launcher" in own:
        own["launcher"] = check_choice(str(own["launcher"]), find_choices("launcher", config_dir), "launcher")
    dotted = {key.removeprefix("launcher."): own.pop(key) for key in [*own] if key.startswith("launcher.")}
    return SweepSettings(run_overrides, dotted, **own)


def _launchers(config_dir: str | None) -> str:
    return "allowed: " + ", ".join(f"launcher={name}" for name in sorted(find_choices("launcher", config_dir)))


def build_launcher(settings: SweepSettings, config_dir: str | None) -> Launcher:
    """Build the launcher of the config group. Raise UserError for invalid settings or a missing optional package."""
    from vlmprune.launchers.base import Launcher

    config = read_choice("launcher", settings.launcher, config_dir)
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
