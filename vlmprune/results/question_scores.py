"""The scores of a run question by question, from its predictions.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmprune.errors import error_text
from vlmprune.files import read_bytes
from vlmprune.results.line_schema import Scored
from vlmprune.results.text import terminal_line
from vlmprune.typed_json import BadLine, parse_lines


@dataclass(frozen=True, eq=False)
class Questions:
    """Scores of Q questions, sorted by id. scores: float [Q]; images: the image id of each; categories: '' for none."""

    ids: tuple[str, ...]
    scores: np.ndarray
    images: tuple[str, ...]
    categories: tuple[str, ...]

    def at(self, positions: np.ndarray) -> Questions:
        """Return the questions at `positions`, int [P] in increasing order."""
        ids, images, categories = (
            tuple(names[i] for i in positions) for names in (self.ids, self.images, self.categories)
        )
        return Questions(ids, self.scores[positions], images, categories)


def read_questions(file: Path) -> Questions | str | None:
    """Return a run's questions from its predictions.jsonl; one line with the reason if the file is damaged.

    Return None if it is missing, empty, or has an answer without a score.
    """
    try:
        lines: list[Scored] = parse_lines(read_bytes(file), Scored)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{file.name} cannot be read ({error_text(error)}): nothing is compared question by question"
    except BadLine as error:
        return (
            f"{file.name} line {error.number} is damaged ({error_text(error)}): nothing is compared question by "
            "question"
        )
    rows = {row["id"]: row for row in lines}
    if len(rows) < len(lines):
        return f"{file.name} has several answers to one sample: nothing is compared question by question"
    ids = sorted(rows)
    scores = [rows[id_]["score"] for id_ in ids]
    if not ids or None in scores:
        return None
    images = tuple(rows[id_]["image_id"] for id_ in ids)
    categories = tuple(terminal_line(rows[id_].get("category", "")) for id_ in ids)
    return Questions(tuple(ids), np.array(scores, dtype=float), images, categories)
