"""What a run is called beside others: its method, with the settings that tell it from other runs of that method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.report.escapes import one_line
from vlmprune.report.runs import Run

BUDGETING = ("positions", "scope", "budget")  # settings of the run, beside the method's own, that change what it does


def label_runs(runs: list[Run]) -> dict[Path, str]:
    """Directory -> label."""
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
    """The method's own settings from config.yaml; {} where it cannot be read, the name then has to do."""
    method = run.config.get("method")
    own = method if isinstance(method, dict) else {}
    settings = {key: value for key, value in own.items() if key not in ("_target_", "info")}
    return settings | {key: run.config[key] for key in BUDGETING if key in run.config}


def _differing(settings: list[dict[str, Any]]) -> list[str]:
    """Keys that do not have one value in all of them."""
    keys = sorted({str(key) for each in settings for key in each})
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
