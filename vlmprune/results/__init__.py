"""Finished runs: their files, comparison, tables, charts and pages. `vlmprune.results("outputs")` returns them as rows.

The package itself is callable: a function of this name in vlmprune/__init__.py would be replaced by the package as soon
as anything imports a module of it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class ResultsPackage(ModuleType):
    """This package as a function."""

    def __call__(self, *folders: str | os.PathLike[str]) -> list[dict[str, Any]]:
        """Return a row for every finished run under `folders` (default: outputs), for `pandas.DataFrame(rows)`.

        The rows and fields are those of `vlmprune compare format=csv`, which compares each run with the unpruned run
        and with random pruning at as many tokens; `vlmprune.results.columns.row_fields` has the meaning and unit of
        each. None where a field is unknown. Runs are comparable if all of their comparable_... fields are equal.
        Raises UserError for a folder that does not exist. Imports no torch.
        """
        from vlmprune.errors import UserError
        from vlmprune.results.columns import as_records
        from vlmprune.results.comparison import make_rows
        from vlmprune.results.find import find_tables
        from vlmprune.terminal import say

        places = [Path(folder).expanduser() for folder in folders or ("outputs",)]
        for place in places:
            if not os.path.isdir(place):
                raise UserError(f"'{place}': no such folder; give run directories, or folders of them")
        tables, _, unfinished = find_tables(places)
        for line in [fault for _, group in tables for run in group for fault in run.faults]:
            say(f"note: {line}")
        for other in unfinished:
            say(f"not shown: {other.path}: {other.why}")
        return as_records([make_rows(shown, group) for shown, group in tables])

    def __reduce__(self) -> tuple[Any, ...]:  # a function can be sent to other processes, a plain module cannot
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = ResultsPackage
