"""Saved pictures of kept tokens for the HTML report: the same questions across methods.

A run directory is untrusted input: files outside its pictures folder and files that are no pictures are left out.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmprune.report.picture_index import FOLDER, read_index
from vlmprune.report.rows import Row

QUESTIONS, RUNS = 4, 8  # most questions of a table, and most runs of each
LONGEST_SIDE, QUALITY = 720, 88  # of the JPEG, LONGEST_SIDE in pixels


@dataclass(frozen=True)
class Example:
    """One run's answer to one question. file: its picture; kept, total: visual tokens; score: None if not judged."""

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
    pruned = [row for row in having if not row.run.unpruned]
    methods = Counter(row.run.amount for row in pruned)
    removed = {row.run.amount: row.run.reduction for row in pruned}
    amount = max(methods, key=lambda amount: (methods[amount], removed[amount]), default=None)
    side = [row for row in having if row.run.unpruned or row.run.amount == amount][:RUNS]
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
            folder / each["file"],
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
