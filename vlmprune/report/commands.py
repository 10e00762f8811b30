"""Commands that make a missing run: the settings of an existing run, with another method."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from vlmprune.overrides import AMOUNT, UNUSED, group_of
from vlmprune.report.runs import Run

OWN = ("method", *AMOUNT, "seed")  # settings that the other run does not take over


def command(settings: Iterable[str], method: str, amount: str = "", verb: str = "run") -> str:
    """Return the command of `method` at `amount` ('ratio=0.9') with the other `settings` of a run, as typed."""
    dropped = (*OWN, *UNUSED) if method == "none" else OWN
    same = [setting for setting in settings if group_of(setting) not in dropped]
    return shlex.join(["vlmprune", verb, f"method={method}", *amount.split(), *same])


def asked(run: Run) -> str:
    """Return the requested amount of a run as a setting ('ratio=0.9'); '' for a published schedule."""
    if run.keep is not None:
        return f"keep={run.keep}"
    return "" if run.ratio is None else f"ratio={run.ratio:g}"
