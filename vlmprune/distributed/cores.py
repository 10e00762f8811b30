"""How many processes a CPU can take: each has a model of its own in memory, and needs a core to be of any use."""

from __future__ import annotations

import os

from vlmprune.errors import UserError


def check_cores(setting: str, processes: int) -> None:
    """Raise a UserError that names `setting` where there are more processes than cores."""
    cores = os.cpu_count() or 1
    if processes > cores:
        there = f"{cores} CPU core{'' if cores == 1 else 's'}"
        raise UserError(f"{setting}: this machine has {there}, one for each process")
