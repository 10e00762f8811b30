"""The comparison as printed: its tables, the notes beside them, and how the tables differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.results.columns import BEYOND, COLUMNS, KEYS, as_records, columns_for, table_fields
from vlmprune.results.runs import Run
from vlmprune.results.summary import CONVENTIONS, equal_ratio, make_command, requested_amount
from vlmprune.results.tables import LATEX_HEAD, Report, Table, column_legend
from vlmprune.results.text import terminal_line
from vlmprune.results.timing import CONDITIONS, retiming_notes, timing_notes
from vlmprune.source_code import ENGINE

if TYPE_CHECKING:
    from vlmprune.results.comparison import Row


OPTIONAL_KEYS = (
    "pictures",
    "generation",
)  # keys of `comparable` that exist only for values other than the checkpoint's
HASHED_GROUPS = ("model", "benchmark")  # parts of config.yaml behind the hashes of `comparable`
MARKED_TIMES = "prefill"  # the column with the mark DOUBTFUL


def title(run: Run) -> str:
    """Return the title of a group: model, benchmark, metric, questions and dtype, which its runs share."""
    subset = run.comparable.get("subset", "all")
    questions = f"all {run.samples:,} questions" if subset == "all" else f"{run.samples:,} questions ({subset})"
    chosen = [run.comparable[name] for name in OPTIONAL_KEYS if name in run.comparable]
    if run.comparable["engine"] != str(ENGINE):
        chosen.append(f"engine {run.comparable['engine']}, today's is {ENGINE}")
    return " · ".join(
        [f"{run.model} on {run.benchmark}", run.metric, questions, run.comparable.get("dtype", "?"), *chosen]
    )


def difference_lines(firsts: list[Run]) -> list[str]:
    """Return lines that say how the tables differ, from the first run of each; [] for one table."""
    if len(firsts) < 2:
        return []
    lines = ["These runs cannot all be compared; each table holds runs that can. They differ in"]
    for name in ("benchmark", "model"):
        values = sorted({getattr(run, name) for run in firsts})
        if len(values) > 1:
            lines.append(f"  {name}: {', '.join(values)}")
    for model, benchmark in sorted({(run.model, run.benchmark) for run in firsts}):
        same = [run for run in firsts if (run.model, run.benchmark) == (model, benchmark)]
        differing = [
            *_differing([run.comparable for run in same]),
            # The settings behind differing hashes, of the runs whose config can be read.
            *_differing([settings for run in same if (settings := _settings(run))]),
        ]
        lines += [f"  {name} ({model} on {benchmark}): {values}" for name, values in differing]
    return lines


def table_notes(rows: list[Row]) -> list[str]:
    """Return the notes of one table: environments, long questions and missing reference runs."""
    return [terminal_line(line) for line in (*figure_notes(rows), *missing_references(rows))]


def figure_notes(rows: list[Row]) -> list[str]:
    """Return the notes without which the figures of a table would be read wrongly, whatever its columns."""
    runs = [run for row in rows for run in row.run.seeds]
    return [*environment_notes(runs), *beyond_notes(rows)]


def time_notes(rows: list[Row]) -> list[str]:
    """Return the notes on the column of prefill times, with the command that measures doubtful ones again."""
    return [terminal_line(line) for line in (*timing_notes(rows), *retiming_notes(rows))]


def missing_references(rows: list[Row]) -> list[str]:
    """Return a note for each kind of reference run that a table lacks, with the command that makes it."""
    lines = []
    if all(row.relative is None for row in rows) and not rows[0].run.is_unpruned:
        lines.append(f"note: no unpruned run to compare with: {make_command(rows[0].run.settings, 'none')}")
    lacking = [row for row in rows if row.lacks_random]
    if lacking:
        names = f"{lacking[0].name} {lacking[0].run.amount}" + (f" and {len(lacking) - 1} more" if lacking[1:] else "")
        made_by = " and ".join(random_commands([row.run for row in lacking]))
        lines.append(f"note: no random pruning at as many tokens as {names}: {made_by}")
    return lines


def random_commands(runs: list[Run]) -> list[str]:
    """Return the commands that run random pruning at the layer-averaged tokens of `runs`.

    They use the amounts of `runs` where these give as many tokens, else the ratio that does.
    """
    from vlmprune.results.comparison import (
        same_token_count,  # imports numpy, which a table without this note need not wait for
    )

    amounts: dict[str, list[str]] = {}
    for run in runs:
        given = run.total * (1 - run.ratio) if run.ratio is not None else run.keep
        as_given = given is not None and same_token_count(run.layer_averaged, given)
        key, _, value = requested_amount(run).partition("=")
        if not as_given:
            key, value = "ratio", equal_ratio(run.layer_averaged, run.total)
        amounts.setdefault(key, []).append(value)
    commands = []
    for key, values in amounts.items():
        different = ",".join(dict.fromkeys(values))
        verb, more = ("sweep", " baselines=false") if "," in different else ("run", "")
        commands.append(make_command(runs[0].settings, "random", f"{key}={different}{more}", verb))
    return commands


def environment_notes(runs: list[Run]) -> list[str]:
    """Return notes on differing environments, whose times may not be comparable, and on another FLOPs convention."""
    convention = runs[0].comparable.get("flops")  # one for all runs of a table
    lines = [f"note: FLOPs {CONVENTIONS.get(convention, f'by {convention}')}"] if convention else []
    for key in (*CONDITIONS, "versions"):
        found = [run.timing_environment for run in runs]
        found += [run.environment for run in runs if key == "versions"]  # of the answers
        values = {json.dumps(each.get(key), sort_keys=True) for each in found}
        if len(values) > 1 and key == "versions":
            lines.append(f"note: library versions differ ({', '.join(_differing_versions(found))})")
        elif len(values) > 1:
            lines.append(f"note: {key} differs ({', '.join(sorted(values))}): times do not compare")
    return lines


def beyond_notes(rows: list[Row]) -> list[str]:
    """Return a note that explains the mark BEYOND; [] if no run has questions beyond the decoder's positions."""
    runs = [run for row in rows for run in (row.run, row.unpruned) if run is not None]
    most = max(runs, key=lambda run: (run.beyond or 0, run.longest or 0))
    if not most.beyond:
        return []
    return [
        f"note: {BEYOND}: questions longer than the decoder's {most.limit:,} positions, up to {most.beyond:,} of "
        f"{most.samples:,} in a run ({most.longest:,} positions): it was not trained for them, and a score relative to "
        "such an unpruned run flatters pruning"
    ]


def _differing(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (name, values) of each key whose values are not the same in all `records`."""
    pairs = []
    for name in sorted({name for each in records for name in each}):
        values = sorted(
            {"none" if each.get(name) is None else terminal_line(str(each[name])) or "''" for each in records}
        )
        if len(values) > 1:
            pairs.append((name, " | ".join(values)))
    return pairs


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings of model and benchmark with dotted names, such as 'model.prompt'."""
    groups = {group: run.config.get(group) for group in HASHED_GROUPS}
    return {
        f"{group}.{name}": value
        for group, settings in groups.items()
        if isinstance(settings, dict)
        for name, value in settings.items()
        if name not in ("_target_", "info", "name", "dtype")  # `comparable` has the dtype itself
    }


def _differing_versions(environments: list[dict[str, Any]]) -> list[str]:
    versions = [dict(each.get("versions") or {}) for each in environments]
    packages = sorted({package for each in versions for package in each})
    return [package for package in packages if len({each.get(package) for each in versions}) > 1]


CAPTION = "[95 %]: bootstrap over images; p: sign flips over images, Holm-corrected by column; *: Pareto front"
SPREAD = "±: standard deviation over seeds"


@dataclass
class Comparison:
    """All tables. tables: rows of each group of comparable runs; others: (path, reason) of what is no finished run."""

    tables: list[list[Row]]
    others: list[tuple[Path, str]]

    @property
    def differences(self) -> list[str]:
        """Lines that say how the tables differ; [] for one table."""
        return difference_lines([rows[0].run for rows in self.tables])

    @property
    def notes(self) -> list[str]:
        """A line for each directory that is not shown."""
        return [terminal_line(f"{path}: {why}") for path, why in self.others]


def print_comparison(comparison: Comparison, style: str, keys: Sequence[str] = KEYS) -> None:
    """Print the tables. style: one of FORMATS; keys: columns of a text table; CSV and JSON have all fields."""
    differences = comparison.differences
    tables = [comparison_table(rows, keys) for rows in comparison.tables]
    legend = column_legend(column for table in tables for column in table.columns)
    groups = []
    for rows, fields in zip(comparison.tables, table_fields(comparison.tables), strict=True):
        run = rows[0].run
        values = [{name: value for name, (value, _) in each.items()} for each in fields]
        names = {"model": run.model, "benchmark": run.benchmark}
        groups.append(names | {"comparable": run.comparable, "runs": values})
    data = {
        "groups": groups,
        "differ": differences,
        "unfinished": [{"path": str(path), "reason": why} for path, why in comparison.others],
        "legend": {name: about for name, (_, about) in fields[0].items()},
    }
    Report(
        tables,
        legend,
        as_records(comparison.tables),
        data,
        above=differences,
        notes=comparison.notes,
        notes_title="not shown:",
        latex_head=[
            f"{LATEX_HEAD}; columns=method,ratio,score,... chooses columns",
            *(f"% {name}: {about}" for name, about in legend),
        ],
    ).print(style)


def comparison_table(rows: list[Row], keys: Sequence[str]) -> Table[Row]:
    """Return the table of one group. Its caption leaves out the notes on missing runs, which a paper does not need."""
    spread = [SPREAD] if any(len(row.run.seeds) > 1 for row in rows) else []
    times = timing_notes(rows) if MARKED_TIMES in keys else []
    return Table(
        title(rows[0].run),
        columns_for(rows, keys),
        rows,
        bold=[row.front for row in rows],
        notes=table_notes(rows),
        column_notes={COLUMNS[MARKED_TIMES].title: time_notes(rows)},
        caption="; ".join([CAPTION, *spread, *figure_notes(rows), *times]),
    )
