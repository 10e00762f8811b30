"""The command `vlmprune compare`: tables of finished runs, one for every set that may be compared."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmprune.config.arguments import read_settings, split_arguments
from vlmprune.config.typecheck import check_file_names, check_type
from vlmprune.errors import UserError, check_choice, nearest
from vlmprune.files import expand_path
from vlmprune.results.columns import KEYS
from vlmprune.results.find import UnfinishedRun, find_runs, group_runs, is_run
from vlmprune.results.notes import Comparison, print_comparison
from vlmprune.results.runs import Run
from vlmprune.results.tables import FORMATS
from vlmprune.terminal import say

FILTERS = ("method", "ratio", "keep", "model", "benchmark", "limit", "seed", "dtype", "device")
SETTINGS = ("outputs", "format", "columns", "chart", "charts", "html")
SEVERAL = (*FILTERS, "columns")  # may have several values
OPTIONS = ("--published", "--hard")


@dataclass
class CompareRequest:
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


def read_compare_request(arguments: list[str]) -> CompareRequest:
    """Parse folders, options and key=value arguments. Raise UserError with the allowed values and the nearest match."""
    request = CompareRequest()
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
            request.columns = tuple(dict.fromkeys(check_choice(str(each), KEYS, "column") for each in value))
        elif key == "format":
            request.format = check_choice(str(value), FORMATS, "format")
        else:
            _set_place(request, key, value)
    if request.columns != KEYS and (request.view or request.format in ("csv", "json")):
        where = request.view or f"format={request.format}"
        raise UserError(f"columns= is of the table, markdown and latex formats; {where} has its own columns")
    drawn = [f"{key}={value}" for key in ("chart", "charts", "html") if (value := getattr(request, key)) is not None]
    if request.view and drawn:
        raise UserError(f"{drawn[0]} shows all runs; {request.view} prints a table: give one of the two")
    return request


def _set_place(request: CompareRequest, key: str, value: Any) -> None:
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
    setattr(request, key, expand_path(key, value))


def matches(run: Run, filters: dict[str, set[str]]) -> bool:
    """Return True if a run has an allowed value for every filter; numbers are compared as numbers."""
    values = filter_values(run)
    return all(_passes(key, values[key], wanted) for key, wanted in filters.items())


def may_match(known: dict[str, Any], filters: dict[str, set[str]]) -> bool:
    """Return True if the `known` values of an unfinished run pass their filters; other filters are ignored."""
    return all(_passes(key, _plain(known[key]), wanted) for key, wanted in filters.items() if key in known)


def _passes(key: str, value: str, wanted: set[str]) -> bool:
    """Return True if `value` is in `wanted`; benchmark=folder also matches folder-NAME."""
    return value in wanted or (key == "benchmark" and value.startswith(tuple(f"{each}-" for each in wanted)))


def filter_values(run: Run) -> dict[str, str]:
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


def compare(arguments: list[str]) -> int:
    """Print the tables and write the requested charts and report; return the exit code.

    Raise UserError for bad input, and if no run is to be shown.
    """
    request = read_compare_request(arguments)
    folders = request.folders or [request.outputs]
    named, others = find_runs(folders)
    # The reference runs of a run that is named lie in the same folder.
    runs, _ = find_runs([*folders, *(folder.parent for folder in folders if is_run(folder))])
    paths = {run.path.resolve() for run in named if matches(run, request.filters)}
    chosen = {run.path for run in runs if run.path.resolve() in paths}
    if not chosen:
        raise UserError(_nothing(request, named, others))
    # (runs to show, their whole group): filters do not exclude reference runs from the comparison.
    pairs = [([run for run in group if run.path in chosen], group) for group in group_runs(runs)]
    pairs = [(shown, group) for shown, group in pairs if shown]
    for line in [fault for _, group in pairs for run in group for fault in run.faults]:
        say(f"note: {line}")
    if request.view == "--published":
        from vlmprune.results.published import show_published

        show_published([run for shown, _ in pairs for run in shown], runs, request.format)
    elif request.view == "--hard":
        from vlmprune.results.hard import show_hard

        show_hard(pairs, request.format)
    else:
        from vlmprune.results.comparison import make_rows

        not_shown = [(other.path, other.why) for other in others if may_match(other.values, request.filters)]
        comparison = Comparison([make_rows(shown, group) for shown, group in pairs], not_shown)
        print_comparison(comparison, request.format, request.columns)
        if request.chart or request.charts or request.html:
            _write_files(request, comparison, pairs)
    return 0


def _write_files(request: CompareRequest, comparison: Comparison, pairs: list[tuple[list[Run], list[Run]]]) -> None:
    from vlmprune.results.charts import draw_charts, draw_overview
    from vlmprune.results.comparison import make_labelled_rows

    chosen = {run.path for shown, _ in pairs for run in shown}
    # Charts draw the unpruned and blind runs as horizontal lines, even if the filters exclude them.
    drawn = [
        make_labelled_rows([run for run in group if run.is_unpruned or run.is_blind or run.path in chosen], group)
        for _, group in pairs
    ]
    if request.chart:
        draw_overview(drawn, request.chart)
        say(f"chart  {request.chart}")
    if request.charts:
        for file in draw_charts(drawn, request.charts):
            say(f"chart  {file}")
    if request.html:
        from vlmprune.results.html import write_page

        write_page(comparison, drawn, request.html)
        say(f"report {request.html}")


def _nothing(request: CompareRequest, runs: list[Run], others: list[UnfinishedRun]) -> str:
    """Return the reason why no run is shown, with a remedy."""
    where = ", ".join(str(folder) for folder in request.folders or [request.outputs])
    if runs:
        for key, wanted in request.filters.items():
            if not any(matches(run, {key: wanted}) for run in runs):
                there = sorted({filter_values(run)[key] for run in runs})
                value = ",".join(sorted(wanted))
                hint = f"{nearest(value, there)}; there are: {', '.join(there)}"
                return f"no finished run in {where} has {key}={value}{hint}"
        return f"none of the {len(runs)} finished runs in {where} passes all filters"
    hint = "start with: vlmprune run method=cls ratio=0.95"
    unfinished = f" ({len(others)} not finished; {others[0].path}: {others[0].why})" if others else ""
    return f"no finished run in {where}{unfinished}; {hint}"
