"""The command `vlmprune compare`: tables of finished runs, one for every set that may be compared."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from vlmprune.config.arguments import Endings, Words, parse
from vlmprune.errors import UserError, nearest
from vlmprune.results.columns import KEYS, LATEX_KEYS
from vlmprune.results.find import UnfinishedRun, find_tables
from vlmprune.results.notes import Comparison, print_comparison
from vlmprune.results.runs import Run
from vlmprune.results.tables import FORMATS
from vlmprune.terminal import say

HELP = """\
vlmprune compare [DIR ...] [key=value ...]: finished runs side by side, with intervals, paired tests and charts.

  vlmprune compare                                   everything under outputs/
  vlmprune compare method=cls,random format=markdown
  vlmprune compare html=report.html charts=figures
  vlmprune compare model=llava-1.5-7b columns=method,ratio,score,vs_random,flops format=latex
  vlmprune compare --hard                            the questions that need the picture's detail
  vlmprune compare --published                       our figures beside the published ones, and the difference

Runs that cannot be compared (another benchmark revision, subset, prompt, model, dtype, ...) get separate tables, and a
line names the differences. DIR: run directories, or folders of them. Filters: method, ratio, keep, model, benchmark,
limit, seed, dtype, device.

{settings}
"""
Filter = tuple[Any, ...]  # a run passes if it has one of the values; () lets all pass


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune compare`. Raises UserError for a view and a setting that it does not have."""

    folders: Annotated[tuple[str, ...], Words()] = ()
    method: Filter = ()
    ratio: Filter = ()
    keep: Filter = ()
    model: Filter = ()
    benchmark: Filter = ()
    limit: Filter = ()
    seed: Filter = ()
    dtype: Filter = ()
    device: Filter = ()
    outputs: Annotated[Path, "the folder of run directories"] = Path("outputs")
    format: Annotated[
        str,
        Literal[tuple(FORMATS)],
        "latex is for booktabs, csv and json have every field, json a legend too",
    ] = "table"
    columns: Annotated[
        tuple[str, ...],
        Literal[KEYS],
        f"of the table, markdown and latex; by default all, and in latex {', '.join(LATEX_KEYS)}",
    ] = ()
    chart: Annotated[Path | None, Endings((".png", ".svg")), "score against ratio and against FLOPs"] = None
    charts: Annotated[Path | None, "ratio, flops, latency and categories, each as .png and .svg"] = None
    html: Annotated[
        Path | None,
        Endings((".html", ".htm")),
        "one page: sortable tables, charts, pictures of kept tokens",
    ] = None
    published: Annotated[bool, "our figures beside the published ones: docs/published.md"] = False
    hard: Annotated[
        bool,
        "the questions that the unpruned model answers right and pool, at the same budget, wrong (the filter of "
        "VTC-Bench); it needs runs of none and of pool",
    ] = False

    def __post_init__(self) -> None:
        if self.published and self.hard:
            raise UserError("--published and --hard are two tables: give one of the two")
        view = "--published" * self.published + "--hard" * self.hard
        if self.columns and (view or self.format in ("csv", "json")):
            where = view or f"format={self.format}"
            raise UserError(f"columns= is of the table, markdown and latex formats; {where} has its own columns")
        drawn = [f"{key}={value}" for key in ("chart", "charts", "html") if (value := getattr(self, key)) is not None]
        if view and drawn:
            raise UserError(f"{drawn[0]} shows all runs; {view} prints a table: give one of the two")
        if self.charts is not None and self.charts.suffix in (".png", ".svg"):
            raise UserError(f"charts={self.charts}: a folder for all charts; chart={self.charts} draws one file")
        for folder in self.places:
            if self.folders and not os.path.isdir(folder):  # False, too, for a name that is too long
                raise UserError(f"'{folder}': no such folder; give run directories, or filters such as method=cls")

    @property
    def places(self) -> list[Path]:
        """The folders in which runs are looked for."""
        return [Path(os.path.expanduser(folder)) for folder in self.folders] or [self.outputs]

    @property
    def filters(self) -> dict[str, set[str]]:
        """The allowed values, as text, of each filter that was given."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.type == "Filter"}
        return {key: set(map(_plain, values)) for key, values in given.items() if values}


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
    settings = parse("compare", Settings, arguments)
    folders, filters = settings.places, settings.filters
    pairs, named, others = find_tables(folders, lambda run: matches(run, filters))
    if not pairs:
        raise UserError(_nothing(folders, filters, named, others))
    for line in [fault for _, group in pairs for run in group for fault in run.faults]:
        say(f"note: {line}")
    if settings.published:
        from vlmprune.results.published import show_published

        show_published(
            [run for shown, _ in pairs for run in shown], [run for _, group in pairs for run in group], settings.format
        )
    elif settings.hard:
        from vlmprune.results.hard import show_hard

        show_hard(pairs, settings.format)
    else:
        from vlmprune.results.comparison import make_rows

        not_shown = [(other.path, other.why) for other in others if may_match(other.values, filters)]
        comparison = Comparison([make_rows(shown, group) for shown, group in pairs], not_shown)
        keys = tuple(dict.fromkeys(settings.columns)) or (LATEX_KEYS if settings.format == "latex" else KEYS)
        print_comparison(comparison, settings.format, keys)
        if settings.chart or settings.charts or settings.html:
            _write_files(settings, comparison, pairs)
    return 0


def _write_files(settings: Settings, comparison: Comparison, pairs: list[tuple[list[Run], list[Run]]]) -> None:
    from vlmprune.results.charts import draw_charts, draw_overview
    from vlmprune.results.comparison import make_labelled_rows

    chosen = {run.path for shown, _ in pairs for run in shown}
    # Charts draw the unpruned and blind runs as horizontal lines, even if the filters exclude them.
    drawn = [
        make_labelled_rows([run for run in group if run.is_unpruned or run.is_blind or run.path in chosen], group)
        for _, group in pairs
    ]
    if settings.chart:
        draw_overview(drawn, settings.chart)
        say(f"chart  {settings.chart}")
    if settings.charts:
        for file in draw_charts(drawn, settings.charts):
            say(f"chart  {file}")
    if settings.html:
        from vlmprune.results.html import write_page

        write_page(comparison, drawn, settings.html)
        say(f"report {settings.html}")


def _nothing(folders: list[Path], filters: dict[str, set[str]], runs: list[Run], others: list[UnfinishedRun]) -> str:
    """Return the reason why no run is shown, with a remedy."""
    start = "start with: vlmprune run method=cls ratio=0.95"
    if not os.path.isdir(folders[0]):
        return f"outputs={folders[0]}: no such folder; {start}"
    where = ", ".join(str(folder) for folder in folders)
    if runs:
        for key, wanted in filters.items():
            if not any(matches(run, {key: wanted}) for run in runs):
                there = sorted({filter_values(run)[key] for run in runs})
                value = ",".join(sorted(wanted))
                hint = f"{nearest(value, there)}; there are: {', '.join(there)}"
                return f"no finished run in {where} has {key}={value}{hint}"
        return f"none of the {len(runs)} finished runs in {where} passes all filters"
    unfinished = f" ({len(others)} not finished; {others[0].path}: {others[0].why})" if others else ""
    return f"no finished run in {where}{unfinished}; {start}"
