"""The jobs of a sweep: every combination composed and checked, with the baselines that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from vlmprune.config import RunConfig, compose_run
from vlmprune.overrides import AMOUNT, QUOTES, expand_sweep, group_of, quoted, without_unused
from vlmprune.registry import read
from vlmprune.sweep_record import JobRecord


@dataclass
class Job:
    """One combination. added: True for a baseline that was not requested. finished: its run has a result already."""

    overrides: list[str]
    config: RunConfig
    record: JobRecord
    added: bool = False
    finished: bool = False

    @property
    def title(self) -> str:
        return self.record.title

    def become(self, config: RunConfig) -> None:
        """Be the job of `config`, which has fewer settings."""
        gone = [override for override in self.overrides if quoted(override) not in config.overrides]
        for override in gone:
            self.record.title = f" {self.title} ".replace(f" {override} ", " ").strip() or "defaults"
        self.config = config
        self.overrides = self.record.overrides = [override for override in self.overrides if override not in gone]


def plan_jobs(settings: list[str], config_dir: str | None, baselines: bool = True) -> list[Job]:
    """Return all combinations of `settings`, composed and checked, baselines first. Raise UserError for bad input."""
    asked = expand_sweep(with_experiment(settings, config_dir), config_dir)
    added = _baselines(asked) if baselines else []
    asked = [without_unused(overrides) for overrides in asked]
    wanted = {tuple(sorted(overrides)) for overrides in asked}
    unique = {tuple(sorted(overrides)): overrides for overrides in [*added, *asked]}
    common = set.intersection(*map(set, unique.values()))
    return [_job(overrides, common, config_dir, key not in wanted) for key, overrides in unique.items()]


def _job(overrides: list[str], common: set[str], config_dir: str | None, added: bool) -> Job:
    config = compose_run(overrides, config_dir)
    own = [override for override in overrides if override not in common or override.startswith("method=")]
    names, title = config.names, " ".join(own or overrides) or "defaults"
    record = JobRecord(title, overrides, names["model"], names["method"], names["benchmark"], config.ratio, config.keep)
    return Job(overrides, config, record, added)


def with_experiment(settings: list[str], config_dir: str | None) -> list[str]:
    """Return `settings` with `experiment=NAME` replaced by that preset's overrides; other `settings` override these."""
    names = [setting.partition("=")[2].strip(QUOTES) for setting in settings if setting.startswith("experiment=")]
    own = [setting for setting in settings if not setting.startswith("experiment=")]
    given = {setting.partition("=")[0] for setting in own}
    preset = [override for name in names for override in read("experiment", name, config_dir)["overrides"]]
    return [override for override in preset if override.partition("=")[0] not in given] + own


def _baselines(combinations: list[list[str]]) -> list[list[str]]:
    """Return the overrides of every combination's unpruned run, and of random pruning by its amount if it has one."""
    added = []
    for overrides in combinations:
        plain = [override for override in overrides if group_of(override) != "method"]
        added.append(without_unused(["method=none", *(each for each in plain if group_of(each) != "seed")]))
        if any(group_of(override) in AMOUNT for override in plain):
            added.append(["method=random", *plain])
    return added
