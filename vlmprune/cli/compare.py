"""`vlmprune compare`: a table for every group of comparable finished runs."""

from __future__ import annotations

from vlmprune.errors import UserError, nearest
from vlmprune.progress import say
from vlmprune.report.folders import Unfinished, find_runs, group_runs, is_run
from vlmprune.report.request import Request, filterable, matches, may_match, parse
from vlmprune.report.runs import Run
from vlmprune.report.tables import Comparison, show


def compare(arguments: list[str]) -> int:
    """Print the tables and write the requested charts and report; return the exit code.

    Raise UserError for bad input, and if no run is to be shown.
    """
    request = parse(arguments)
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
        from vlmprune.report.published_table import show_published

        show_published([run for shown, _ in pairs for run in shown], runs, request.format)
    elif request.view == "--hard":
        from vlmprune.report.hard_table import show_hard

        show_hard(pairs, request.format)
    else:
        from vlmprune.report.rows import make_rows

        not_shown = [(other.path, other.why) for other in others if may_match(other.values, request.filters)]
        comparison = Comparison([make_rows(shown, group) for shown, group in pairs], not_shown)
        show(comparison, request.format, request.columns)
        if request.chart or request.charts or request.html:
            _write_files(request, comparison, pairs)
    return 0


def _write_files(request: Request, comparison: Comparison, pairs: list[tuple[list[Run], list[Run]]]) -> None:
    from vlmprune.report.charts import draw_charts, draw_overview
    from vlmprune.report.rows import labelled_rows

    chosen = {run.path for shown, _ in pairs for run in shown}
    # Charts draw the unpruned and blind runs as horizontal lines, even if the filters exclude them.
    drawn = [
        labelled_rows([run for run in group if run.unpruned or run.blind or run.path in chosen], group)
        for _, group in pairs
    ]
    if request.chart:
        draw_overview(drawn, request.chart)
        say(f"chart  {request.chart}")
    if request.charts:
        for file in draw_charts(drawn, request.charts):
            say(f"chart  {file}")
    if request.html:
        from vlmprune.report.page import write_page

        write_page(comparison, drawn, request.html)
        say(f"report {request.html}")


def _nothing(request: Request, runs: list[Run], others: list[Unfinished]) -> str:
    """Return the reason why no run is shown, with a remedy."""
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
    unfinished = f" ({len(others)} not finished; {others[0].path}: {others[0].why})" if others else ""
    return f"no finished run in {where}{unfinished}; {hint}"
