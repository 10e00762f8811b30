"""The comparison as one HTML file with sortable tables, charts and example pictures; it loads nothing else.

All recorded text (names, questions, answers, notes) is escaped, and pictures are decoded and encoded again. In
addition, a content security policy forbids the page to load anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from vlmprune import __version__
from vlmprune.errors import UserError
from vlmprune.records import write_atomically
from vlmprune.report.charts import chart_svgs
from vlmprune.report.columns import Column, columns_for, legend
from vlmprune.report.examples import Example, data_uri, examples_of
from vlmprune.report.notes import table_notes, title
from vlmprune.report.rows import Row
from vlmprune.report.tables import Comparison

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
NO_EXAMPLES = "No example pictures: a run saves some with show.samples=8."
WIDE = "categories"  # prefix of charts that take the whole width


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
    count = sum(map(len, comparison.tables))
    sections = [_group(number, *pair) for number, pair in enumerate(zip(comparison.tables, drawn, strict=True))]
    every = columns_for(row for rows in comparison.tables for row in rows)
    about = "".join(f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>" for name, meaning in legend(every))
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
            f"<footer><p>vlmprune {escape(__version__)}</p></footer>",
            f"<script>{_file('page.js')}</script>",
            "</body></html>",
            "",
        ]
    )


def _group(number: int, rows: list[Row], drawn: Sequence[Row]) -> str:
    charts = [
        f"<figure{' class=wide' if name.startswith(WIDE) else ''}>{inline_svg(svg, f'g{number}-{name}-')}</figure>"
        for name, svg in chart_svgs([drawn])
    ]
    return "\n".join(
        [
            f"<section><h2>{escape(title(rows[0].run))}</h2>",
            _table(rows, columns_for(rows)),
            _lines(table_notes(rows)),
            f'<h3>Charts</h3><div class="charts">{"".join(charts)}</div>' if charts else "",
            _examples(examples_of(rows)),
            "</section>",
        ]
    )


def _table(rows: list[Row], columns: list[Column]) -> str:
    heads = "".join(
        f'<th{_text_class(column)} title="{escape(column.about)}"><button>{escape(column.title or "*")}</button></th>'
        for column in columns
    )
    lines = []
    for row in rows:
        cells = "".join(
            f'<td{_text_class(column)} data-sort="{_sort_key(column, row)}">{escape(column.cell(row))}</td>'
            for column in columns
        )
        lines.append(f"<tr{' class=front' if row.front else ''}>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _text_class(column: Column) -> str:
    return "" if column.numeric else ' class="text"'


def _sort_key(column: Column, row: Row) -> str:
    value = column.value(row)
    return "" if value is None else escape(str(value))


def _examples(questions: list[list[Example]]) -> str:
    blocks = []
    for examples in questions:
        figures = [_figure(example) for example in examples]
        first = examples[0]
        answer = f" <span class=faint>reference: {escape(first.answer)}</span>" if first.answer else ""
        blocks.append(f'<h4>{escape(first.question)}{answer}</h4><div class="examples">{"".join(figures)}</div>')
    body = "\n".join(blocks) if blocks else f'<p class="note">{NO_EXAMPLES}</p>'
    return f"<h3>Examples: what was kept, and the answer</h3>{body}"


def _figure(example: Example) -> str:
    uri = data_uri(example.file)
    run = example.row.run
    name = escape(f"{example.row.name} {run.amount}".strip())
    picture = f'<img src="{uri}" alt="tokens kept by {name}">' if uri else '<p class="note">no readable picture</p>'
    judged = "" if example.score is None else f" <span class={_mark(example.score)}>score {example.score:g}</span>"
    return (
        f"<figure>{picture}<figcaption><b>{name}</b>: {escape(example.prediction) or '(no answer)'}{judged}<br>"
        f"<span class=faint>{example.kept:,} of {example.total:,} visual tokens</span></figcaption></figure>"
    )


def _mark(score: float) -> str:
    return "right" if score >= 0.5 else "wrong"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def inline_svg(svg: str, prefix: str) -> str:
    """Return an SVG file for use inside a page: without its XML header, and with `prefix` before its ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    return re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}", body)


def _file(name: str) -> str:
    return (files("vlmprune.report") / name).read_text(encoding="utf-8")
