"""`vlmprune compare`: a table of finished runs for every set of them that may be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vlmprune.errors import UserError, choose, nearest
from vlmprune.report.runs import REFERENCE, Run, find_runs, group_runs

FORMATS = ("table", "markdown", "csv", "json")
FILTERS = ("method", "ratio", "keep", "model", "benchmark", "limit", "seed", "dtype", "device")
SETTINGS = ("outputs", "format", "chart")


@dataclass
class Request:
    """What was asked for. filters: key -> the values that pass."""

    folders: list[Path] = field(default_factory=list)
    filters: dict[str, set[str]] = field(default_factory=dict)
    outputs: Path = Path("outputs")
    format: str = "table"
    chart: Path | None = None
    published: bool = False


def compare(arguments: list[str]) -> int:
    """Print the table, draw the chart if asked to; returns the exit code. Raises UserError for bad input."""
    from vlmprune.report.rows import make_rows
    from vlmprune.report.tables import show

    request = parse(arguments)
    folders = request.folders or [request.outputs]
    runs, others = find_runs(folders)
    chosen = [run for run in runs if matches(run, request.filters)]
    if not chosen:
        raise UserError(_nothing(request, runs, others))
    if request.published:
        from vlmprune.report.published_table import show_published

        show_published(chosen, runs, request.format)
        return 0
    groups = group_runs(runs)
    shown = [[run for run in group if run in chosen] for group in groups]
    tables = [make_rows(some, group) for some, group in zip(shown, groups, strict=True) if some]
    show(tables, others, request.format)
    if request.chart is not None:
        from vlmprune.progress import say
        from vlmprune.report.charts import accuracy_chart

        # The chart's horizontal lines are references: they stay whatever the filters are.
        lines = [[run for run in group if run.unpruned or run.blind or run in chosen] for group in groups]
        drawn = [make_rows(line, group) for line, some, group in zip(lines, shown, groups, strict=True) if some]
        accuracy_chart(drawn, request.chart)
        say(f"chart  {request.chart}")
    return 0


def parse(arguments: list[str]) -> Request:
    """Folders and key=value arguments. Raises UserError, naming what is allowed and the nearest match."""
    request = Request()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument == "--published":
            request.published = True
            continue
        if argument.startswith("-"):
            hint = nearest(argument, ["--published"])
            raise UserError(
                f"'{argument}' is not an option of compare{hint}; settings are key=value, see compare --help"
            )
        if not equals or Path(argument).is_dir():
            if not Path(argument).is_dir():
                raise UserError(f"'{argument}': no such folder; give run directories, or filters such as method=cls")
            request.folders.append(Path(argument))
        elif key == "outputs":
            request.outputs = Path(value)
        elif key == "format":
            request.format = choose(value, FORMATS, "format")
        elif key == "chart":
            if Path(value).suffix not in (".png", ".svg"):
                raise UserError(f"chart={value}: allowed: a file name that ends in .png or .svg")
            request.chart = Path(value)
        elif key in FILTERS:
            request.filters[key] = {part.strip() for part in value.split(",")}
        else:
            allowed = sorted(FILTERS + SETTINGS)
            raise UserError(f"'{key}' is not a filter or setting{nearest(key, allowed)}; allowed: {', '.join(allowed)}")
    if request.published and request.chart is not None:
        raise UserError(f"chart={request.chart} draws runs; --published prints a table: give one of the two")
    return request


def matches(run: Run, filters: dict[str, set[str]]) -> bool:
    """Whether every filter has the run's value among its own; numbers compare as numbers."""
    values = filterable(run)
    return all(values[key] in {_plain(value) for value in wanted} for key, wanted in filters.items())


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


def _nothing(request: Request, runs: list[Run], others: list[tuple[Path, str]]) -> str:
    """Why there is nothing to show, and what to do."""
    where = ", ".join(str(folder) for folder in request.folders or [request.outputs])
    if runs:
        for key, wanted in request.filters.items():
            if not any(matches(run, {key: wanted}) for run in runs):
                there = sorted({filterable(run)[key] for run in runs})
                value = ",".join(sorted(wanted))
                hint = f"{nearest(value, there)}; there are: {', '.join(there)}"
                return f"no finished run in {where} has {key}={value}{hint}"
        return f"none of the {len(runs)} finished runs in {where} passes all filters"
    hint = "start with: vlmprune run method=cls ratio=0.95"
    if (request.outputs / REFERENCE).is_dir() and not request.folders:
        hint += f", or look at the committed results: vlmprune compare {request.outputs / REFERENCE}"
    unfinished = f" ({len(others)} not finished)" if others else ""
    return f"no finished run in {where}{unfinished}; {hint}"
