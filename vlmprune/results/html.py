"""The comparison as one HTML file: sortable tables, charts and example pictures, nothing loaded from elsewhere.

All recorded text (names, questions, answers, notes) is escaped, and pictures are decoded and encoded again. In
addition, a content security policy forbids the page to load anything.

A run directory is untrusted input: files outside its pictures folder and files that are no pictures are left out.
"""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from vlmprune.errors import UserError
from vlmprune.files import write_atomically
from vlmprune.results.charts import chart_svgs
from vlmprune.results.columns import METHOD, columns_for
from vlmprune.results.comparison import Row
from vlmprune.results.curves import FAINT, GRID, INK, find_look
from vlmprune.results.notes import Comparison, table_notes, time_notes, title
from vlmprune.results.picture_index import FOLDER, read_index
from vlmprune.results.runs import Run
from vlmprune.results.tables import Column, column_legend
from vlmprune.results.text import terminal_line
from vlmprune.version import __version__

QUESTIONS, RUNS = 4, 8  # most questions of a table, and most runs of each
LONGEST_SIDE, QUALITY = 720, 88  # of the JPEG, LONGEST_SIDE in pixels


@dataclass(frozen=True)
class Example:
    """One run's answer to one question.

    file: its picture, without words where the run has one; kept, total: visual tokens; score: None if not judged.
    """

    row: Row
    file: Path
    id: str
    question: str
    answer: str
    prediction: str
    score: float | None
    kept: int
    total: int


def examples_of(rows: Sequence[Row]) -> list[list[Example]]:
    """Return up to QUESTIONS lists, one per question, with the examples of the unpruned run and the runs at one budget.

    The budget is the one at which most runs have pictures; of equals, the smallest. The questions are those that most
    of these runs have pictures of; of equals, those whose scores differ. Return [] if no run has pictures.
    """
    found = {row.run.path: read_examples(row) for row in rows}
    having = [row for row in rows if found[row.run.path]]
    pruned = [row for row in having if not row.run.is_unpruned]
    methods = Counter(row.run.amount for row in pruned)
    removed = {row.run.amount: row.run.reduction for row in pruned}
    amount = max(methods, key=lambda amount: (methods[amount], removed[amount]), default=None)
    side = [row for row in having if row.run.is_unpruned or row.run.amount == amount][:RUNS]
    questions: dict[str, list[Example]] = {}
    for row in side:
        for example in found[row.run.path]:
            questions.setdefault(example.id, []).append(example)
    ordered = sorted(questions.values(), key=lambda each: (-len(each), len({example.score for example in each}) == 1))
    return ordered[:QUESTIONS]


def read_examples(row: Row) -> list[Example]:
    """Return the examples that a run's pictures/index.json lists."""
    folder = row.run.path / FOLDER
    return [
        Example(
            row,
            folder / each.get("panels", each["file"]),
            *(each["id"], each["question"], each["answer"], each["prediction"]),
            *(each["score"], each["kept"], each["total"]),
        )
        for each in read_index(row.run.path)
    ]


def data_uri(file: Path) -> str | None:
    """Return a picture, decoded and scaled down, as a JPEG data URI; None if the file is no picture."""
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG", "JPEG", "WEBP"]) as picture:
            small = picture.convert("RGB")
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=QUALITY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # SyntaxError: a broken PNG
        return None
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
NO_EXAMPLES = "No example pictures: a run saves some with show.samples=8."
COLOURS = "Blue outline: kept as it is. Orange: merged with others, or new. Faded: dropped."
WIDE = "categories"  # prefix of charts that take the whole width
VARIABLES = {INK: "--ink", GRID: "--line", FAINT: "--faint", "#FFFFFF": "--paper"}  # of page.css, light or dark


def write_page(comparison: Comparison, drawn: Sequence[Sequence[Row]], path: Path) -> None:
    """Write the report. drawn: rows of the charts, for each table. Raise UserError if the file cannot be written."""
    page = make_page(comparison, drawn)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page)
    except OSError as error:
        raise UserError(f"html={path} cannot be written: {error}") from error


def make_page(comparison: Comparison, drawn: Sequence[Sequence[Row]]) -> str:
    """Return the HTML document."""
    runs = [run for rows in comparison.tables for row in rows for run in row.run.seeds]
    count = len(runs)
    sections = [_group(number, *pair) for number, pair in enumerate(zip(comparison.tables, drawn, strict=True))]
    every = [column for rows in comparison.tables for column in columns_for(rows)]
    about = "".join(f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>" for name, meaning in column_legend(every))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>vlmprune: {count} runs</title>",
            f"<style>{_file('page.css')}</style></head><body>",
            f"<h1>vlmprune: {count} runs compared</h1>",
            '<p class="note">Click a heading to sort. Shaded rows are on the Pareto front of score and FLOPs.</p>',
            _lines(comparison.differences),
            *sections,
            f"<h2>What the columns mean</h2><dl>{about}</dl>",
            f"<h2>Not shown</h2>{_lines(comparison.notes)}" if comparison.notes else "",
            f"<footer>{_lines(origin_lines(runs))}</footer>",
            f"<script>{_file('page.js')}</script>",
            "</body></html>",
            "",
        ]
    )


def origin_lines(runs: Sequence[Run]) -> list[str]:
    """Return a line for each device and set of library versions of the runs, with their dates, and one for the page."""
    places: dict[str, list[Run]] = {}
    for run in runs:
        known = run.environment
        versions = ", ".join(f"{package} {version}" for package, version in (known.get("versions") or {}).items())
        facts = (known.get("device_name"), known.get("device"), known.get("dtype"), versions)
        places.setdefault(" · ".join(str(fact) for fact in dict.fromkeys(facts) if fact), []).append(run)
    lines = []
    for place, there in places.items():
        dates = sorted({run.finished[:10] for run in there if run.finished})
        when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "no date on record"
        lines.append(terminal_line(f"{len(there)} run{'s' * (len(there) > 1)} · {when} · {place}"))
    return [*lines, f"page made on {datetime.now(UTC):%Y-%m-%d} by vlmprune {__version__}"]


def _group(number: int, rows: list[Row], drawn: Sequence[Row]) -> str:
    charts = [
        f"<figure{' class=wide' if name.startswith(WIDE) else ''}>{inline_svg(svg, f'g{number}-{name}-')}</figure>"
        for name, svg in chart_svgs([drawn])
    ]
    return "\n".join(
        [
            f"<section><h2>{escape(title(rows[0].run))}</h2>",
            _table(rows, columns_for(rows)),
            _lines([*time_notes(rows), *table_notes(rows)]),
            f'<h3>Charts</h3><div class="charts">{"".join(charts)}</div>' if charts else "",
            _examples(examples_of(rows)),
            "</section>",
        ]
    )


def _table(rows: list[Row], columns: list[Column[Row]]) -> str:
    heads = "".join(
        f'<th{_text_class(column)} title="{escape(column.about)}">'
        f"<button>{escape(column.name or column.title)}</button></th>"
        for column in columns
    )
    lines = []
    for row in rows:
        cells = "".join(
            f'<td{_text_class(column)} data-sort="{_sort_key(column, row)}">'
            f"{method_mark(row) if column.title == METHOD else ''}{escape(column.text(row))}</td>"
            for column in columns
        )
        lines.append(f"<tr{' class=front' if row.front else ''}>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def method_mark(row: Row) -> str:
    """Return the marker of a row's method in its colour, as in the charts, as an SVG element."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    color, marker = find_look(row.name.partition(" ")[0])
    paint = f"var({VARIABLES[color]})" if color in VARIABLES else color
    shape = MarkerStyle(marker)
    scale = Affine2D().scale(100)  # curves become lines of about length 1
    outline = shape.get_path().transformed(shape.get_transform() + scale).to_polygons(closed_only=False)
    lines = " ".join("M" + "L".join(f"{x:.0f} {-y:.0f}" for x, y in np.asarray(line)) for line in outline)
    return (
        '<svg class="mark" viewBox="-80 -80 160 160" aria-hidden="true">'
        f'<path d="{lines}" style="fill:{paint};stroke:{paint};stroke-width:18"/></svg>'
    )


def _text_class(column: Column[Row]) -> str:
    return f' class="text{" method" if column.title == METHOD else ""}"' if column.left else ""


def _sort_key(column: Column[Row], row: Row) -> str:
    value = column.value(row) if column.value else column.text(row)
    return "" if value is None else escape(str(value))


def _examples(questions: list[list[Example]]) -> str:
    blocks = []
    for examples in questions:
        figures = [_figure(example) for example in examples]
        first = examples[0]
        answer = f" <span class=faint>reference: {escape(first.answer)}</span>" if first.answer else ""
        blocks.append(f'<h4>{escape(first.question)}{answer}</h4><div class="examples">{"".join(figures)}</div>')
    body = "\n".join(blocks) if blocks else f'<p class="note">{NO_EXAMPLES}</p>'
    legend = f'<p class="note">{COLOURS}</p>' if blocks else ""
    return f"<h3>Examples: what was kept, and the answer</h3>{legend}{body}"


def _figure(example: Example) -> str:
    uri = data_uri(example.file)
    run = example.row.run
    name, mark = escape(f"{example.row.name} {run.amount}".strip()), method_mark(example.row)
    picture = f'<img src="{uri}" alt="tokens kept by {name}">' if uri else '<p class="note">no readable picture</p>'
    judged = "" if example.score is None else f" <span class={_mark(example.score)}>score {example.score:g}</span>"
    return (
        f"<figure>{picture}<figcaption>{mark}<b>{name}</b>: {escape(example.prediction) or '(no answer)'}{judged}<br>"
        f"<span class=faint>{example.kept:,} of {example.total:,} visual tokens</span></figcaption></figure>"
    )


def _mark(score: float) -> str:
    return "right" if score >= 0.5 else "wrong"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def inline_svg(svg: str, prefix: str) -> str:
    """Return an SVG file for use inside a page: without its XML header, in the page's colours for ink and paper.

    prefix: stands before each of its ids, so that they are the page's only ones of that name.
    """
    body = svg[svg.index("<svg") :]
    for color, variable in VARIABLES.items():
        body = body.replace(f": {color.lower()}", f": var({variable})")
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    return re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}", body)


def _file(name: str) -> str:
    return (files("vlmprune.results") / name).read_text(encoding="utf-8")
