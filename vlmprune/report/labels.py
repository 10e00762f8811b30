"""Labels of runs: the method, with the settings that differ among the runs of that method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.report.escapes import one_line
from vlmprune.report.runs import Run

BUDGETING = ("positions", "scope", "budget")  # settings of the run that change the kept tokens, beside the method's


def label_runs(runs: list[Run]) -> dict[Path, str]:
    """Return the label of each run, by directory."""
    settings = {run.path: method_settings(run) for run in runs}
    by_method: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(settings[run.path])
    differing = {method: _differing(each) for method, each in by_method.items()}
    labels = {}
    for run in runs:
        own = [f"{key}={settings[run.path][key]}" for key in differing[run.method] if key in settings[run.path]]
        labels[run.path] = one_line(" ".join([run.method, *own]))
    return labels


def method_settings(run: Run) -> dict[str, Any]:
    """Return the settings of the run's method and of BUDGETING from config.yaml; {} if it cannot be read."""
    method = run.config.get("method")
    own = method if isinstance(method, dict) else {}
    settings = {key: value for key, value in own.items() if key not in ("_target_", "info")}
    return settings | {key: run.config[key] for key in BUDGETING if key in run.config}


def _differing(settings: list[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all `settings`."""
    keys = sorted({str(key) for each in settings for key in each})
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
