"""Arguments of `vlmprune compare`, and its filters on runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprune.arguments import read_settings, split_arguments
from vlmprune.errors import UserError, choose, nearest
from vlmprune.files import expanded
from vlmprune.report.columns import KEYS
from vlmprune.report.runs import Run
from vlmprune.report.tables import FORMATS
from vlmprune.schema import check_file_names, check_type

FILTERS = ("method", "ratio", "keep", "model", "benchmark", "limit", "seed", "dtype", "device")
SETTINGS = ("outputs", "format", "columns", "chart", "charts", "html")
SEVERAL = (*FILTERS, "columns")  # may have several values
OPTIONS = ("--published", "--hard")


@dataclass
class Request:
    """The parsed arguments. filters: key -> allowed values. view: '--published', '--hard' or ''."""

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
    """Parse folders, options and key=value arguments. Raise UserError with the allowed values and the nearest match."""
    request = Request()
    settings, others = split_arguments(arguments)
    for argument in others:
        if argument in OPTIONS:
            if request.view not in ("", argument):
                raise UserError(f"{request.view} and {argument} are two tables: give one of the two")
            request.view = argument
        elif argument.startswith("-"):
            hint = nearest(argument, OPTIONS)
            raise UserError(
                f"'{argument}' is not an option of compare{hint}; settings are key=value, see compare --help"
            )
        elif os.path.isdir(folder := os.path.expanduser(argument)):  # False, too, for a name that is too long
            request.folders.append(Path(folder))
        else:
            raise UserError(f"'{argument}': no such folder; give run directories, or filters such as method=cls")
    for key, value in read_settings(settings, "compare", SETTINGS, several=SEVERAL).items():
        if key in FILTERS:
            request.filters[key] = {_plain(each) for each in value}
        elif key == "columns":
            request.columns = tuple(dict.fromkeys(choose(str(each), KEYS, "column") for each in value))
        elif key == "format":
            request.format = choose(str(value), FORMATS, "format")
        else:
            _set_place(request, key, value)
    if request.columns != KEYS and (request.view or request.format in ("csv", "json")):
        where = request.view or f"format={request.format}"
        raise UserError(f"columns= is of the table, markdown and latex formats; {where} has its own columns")
    drawn = [f"{key}={value}" for key in ("chart", "charts", "html") if (value := getattr(request, key)) is not None]
    if request.view and drawn:
        raise UserError(f"{drawn[0]} shows all runs; {request.view} prints a table: give one of the two")
    return request


def _set_place(request: Request, key: str, value: Any) -> None:
    """Set outputs, chart, charts or html of `request` to a path; null keeps the default."""
    check_type(key, value, str if key == "outputs" else str | None)
    check_file_names({key: value})
    if value is None:
        return
    if not value:
        raise UserError(f"{key}= is empty; see compare --help")
    endings = {"chart": (".png", ".svg"), "html": (".html", ".htm")}.get(key)
    if endings and Path(value).suffix not in endings:
        raise UserError(f"{key}={value}: allowed: a file name that ends in {' or '.join(endings)}")
    if key == "charts" and Path(value).suffix in (".png", ".svg"):
        raise UserError(f"charts={value}: a folder for all charts; chart={value} draws one file")
    setattr(request, key, expanded(key, value))


def matches(run: Run, filters: dict[str, set[str]]) -> bool:
    """Return True if a run has an allowed value for every filter; numbers are compared as numbers."""
    values = filterable(run)
    return all(_passes(key, values[key], wanted) for key, wanted in filters.items())


def may_match(known: dict[str, Any], filters: dict[str, set[str]]) -> bool:
    """Return True if the `known` values of an unfinished run pass their filters; other filters are ignored."""
    return all(_passes(key, _plain(known[key]), wanted) for key, wanted in filters.items() if key in known)


def _passes(key: str, value: str, wanted: set[str]) -> bool:
    """Return True if `value` is in `wanted`; benchmark=folder also matches folder-NAME."""
    return value in wanted or (key == "benchmark" and value.startswith(tuple(f"{each}-" for each in wanted)))


def filterable(run: Run) -> dict[str, str]:
    """Return a run's value for every filter, as text."""
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
    """Return a value as text that is equal for equal numbers: 0.90 and .9 become '0.9', None 'null'."""
    if value is None:
        return "null"
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)
