"""The limit on processes that share a CPU: each holds a model in memory and needs one core."""

from __future__ import annotations

import os

from vlmprune.errors import UserError


def check_cores(setting: str, processes: int) -> None:
    """Raise a UserError that names `setting` if there are more processes than cores."""
    cores = os.cpu_count() or 1
    if processes > cores:
        there = f"{cores} CPU core{'' if cores == 1 else 's'}"
        raise UserError(f"{setting}: this machine has {there}, one for each process")
