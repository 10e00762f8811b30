"""What `vlmprune compare` was asked for, and which runs pass."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError, choose, nearest
from vlmprune.files import expanded
from vlmprune.report.columns import KEYS
from vlmprune.report.runs import Run
from vlmprune.report.tables import FORMATS
from vlmprune.schema import check_file_names

FILTERS = ("method", "ratio", "keep", "model", "benchmark", "limit", "seed", "dtype", "device")
SETTINGS = ("outputs", "format", "columns", "chart", "charts", "html")
OPTIONS = ("--published", "--hard")


@dataclass
class Request:
    """filters: key -> the values that pass. view: '--published', '--hard' or ''."""

    folders: list[Path] = field(default_factory=list)
    filters: dict[str, set[str]] = field(default_factory=dict)
    outputs: Path = Path("outputs")
    format: str = "table"
    columns: tuple[str, ...] = KEYS
    chart: Path | None = None
    charts: Path | None = None
    html: Path | None = None
    view: str = ""


def parse(arguments: list[str]) -> Request:
    """Folders, options and key=value arguments. Raises UserError, naming what is allowed and the nearest match."""
    request, given = Request(), set[str]()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument in OPTIONS:
            if request.view not in ("", argument):
                raise UserError(f"{request.view} and {argument} are two tables: give one of the two")
            request.view = argument
        elif argument.startswith("-"):
            hint = nearest(argument, OPTIONS)
            raise UserError(
                f"'{argument}' is not an option of compare{hint}; settings are key=value, see compare --help"
            )
        elif os.path.isdir(argument):  # also false for what is too long for a name
            request.folders.append(Path(argument))
        elif not equals:
            raise UserError(f"'{argument}': no such folder; give run directories, or filters such as method=cls")
        elif key in FILTERS:
            request.filters.setdefault(key, set()).update(part.strip() for part in value.split(","))
        elif key in SETTINGS:
            if key in given:
                raise UserError(f"{argument}: {key}= is given twice")
            given.add(key)
            _set(request, key, value)
        else:
            allowed = sorted(FILTERS + SETTINGS)
            raise UserError(f"'{key}' is not a filter or setting{nearest(key, allowed)}; allowed: {', '.join(allowed)}")
    if request.columns != KEYS and (request.view or request.format in ("csv", "json")):
        where = request.view or f"format={request.format}"
        raise UserError(f"columns= is of the table, markdown and latex formats; {where} has its own columns")
    drawn = [f"{key}={value}" for key in ("chart", "charts", "html") if (value := getattr(request, key)) is not None]
    if request.view and drawn:
        raise UserError(f"{drawn[0]} shows all runs; {request.view} prints a table: give one of the two")
    return request


def _set(request: Request, key: str, value: str) -> None:
    if not value:
        raise UserError(f"{key}= is empty; see compare --help")
    if key == "format":
        request.format = choose(value, FORMATS, "format")
    elif key == "columns":
        chosen = [choose(part.strip(), KEYS, "column") for part in value.split(",")]
        request.columns = tuple(dict.fromkeys(chosen))
    else:
        endings = {"chart": (".png", ".svg"), "html": (".html", ".htm")}.get(key)
        if endings and Path(value).suffix not in endings:
            raise UserError(f"{key}={value}: allowed: a file name that ends in {' or '.join(endings)}")
        if key == "charts" and Path(value).suffix in (".png", ".svg"):
            raise UserError(f"charts={value}: a folder for all charts; chart={value} draws one file")
        check_file_names({key: value})
        setattr(request, key, expanded(key, value))


def matches(run: Run, filters: dict[str, set[str]]) -> bool:
    """Whether every filter has the run's value among its own; numbers compare as numbers."""
    values = filterable(run)
    return all(values[key] in {_plain(value) for value in wanted} for key, wanted in filters.items())


def may_match(known: dict[str, Any], filters: dict[str, set[str]]) -> bool:
    """Whether what is known of an unfinished run passes the filters; those of anything else do not count."""
    return all(
        _plain(known[key]) in {_plain(value) for value in wanted} for key, wanted in filters.items() if key in known
    )


def filterable(run: Run) -> dict[str, str]:
    """A run's value for every filter."""
    values = {
        "method": run.method,
        "ratio": run.ratio,
        "keep": run.keep,
        "model": run.model,
        "benchmark": run.benchmark,
        "limit": run.subset.get("limit"),
        "seed": run.subset.get("seed"),
        "dtype": run.comparable.get("dtype"),
        "device": run.environment.get("device"),
    }
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: object) -> str:
    """One spelling of a value: 0.90 and .9 are '0.9', None is 'null'."""
    if value is None:
        return "null"
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)
