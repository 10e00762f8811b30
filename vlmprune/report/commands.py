"""The command that makes a run which is missing beside others."""

from __future__ import annotations

import shlex

from vlmprune.report.runs import Run

DEFAULTS = {"model": "tiny", "benchmark": "scenes", "outputs": "outputs"}


def command(beside: Run, method: str, amount: str = "") -> str:
    """`vlmprune run` of another method at `amount` ('ratio=0.9') on the same model, benchmark and subset."""
    model = beside.config.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    settings = {
        "method": method,
        "model": beside.model if path is None else "path",
        "model.path": path,
        "benchmark": beside.benchmark,
        "limit": beside.subset.get("limit"),
        "shard": beside.subset.get("shard"),
        "outputs": beside.config.get("outputs"),
    }
    words = [f"{key}={value}" for key, value in settings.items() if value not in (None, DEFAULTS.get(key))]
    return shlex.join(["vlmprune", "run", words[0], *amount.split(), *words[1:]])


def asked(run: Run) -> str:
    """The amount that a run was asked for, as settings; '' for a published schedule."""
    if run.keep is not None:
        return f"keep={run.keep}"
    return "" if run.ratio is None else f"ratio={run.ratio:g}"
