"""The command of a run that is missing beside others: their settings as typed, with another method."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from vlmprune.overrides import AMOUNT, UNUSED, group_of
from vlmprune.report.runs import Run

OWN = ("method", *AMOUNT, "seed")  # settings of the one run


def command(settings: Iterable[str], method: str, amount: str = "", verb: str = "run") -> str:
    """`vlmprune run` of another method at `amount` ('ratio=0.9') with the `settings` of a run, as typed."""
    dropped = (*OWN, *UNUSED) if method == "none" else OWN
    same = [setting for setting in settings if group_of(setting) not in dropped]
    return shlex.join(["vlmprune", verb, f"method={method}", *amount.split(), *same])


def asked(run: Run) -> str:
    """The amount that a run was asked for, as settings; '' for a published schedule."""
    if run.keep is not None:
        return f"keep={run.keep}"
    return "" if run.ratio is None else f"ratio={run.ratio:g}"
