"""The scores of a run question by question, from its predictions.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmprune.report.escapes import one_line


@dataclass(frozen=True, eq=False)
class Questions:
    """Scores [Q] in the order of the questions' ids; images: what each is about; categories: '' where it has none."""

    ids: tuple[str, ...]
    scores: np.ndarray
    images: tuple[str, ...]
    categories: tuple[str, ...]

    def at(self, positions: np.ndarray) -> Questions:
        """Some of them, at `positions` [P] in increasing order."""
        ids, images, categories = (
            tuple(names[i] for i in positions) for names in (self.ids, self.images, self.categories)
        )
        return Questions(ids, self.scores[positions], images, categories)


def read_questions(file: Path) -> Questions | None:
    """None where the file is gone, damaged, empty, or has an answer without a score."""
    try:
        with open(file, encoding="utf-8") as lines:
            rows = {str(row["id"]): row for row in map(json.loads, lines)}
        ids = sorted(rows)
        scores = np.array([float(rows[id_]["score"]) for id_ in ids])
        images = tuple(str(rows[id_]["image_id"]) for id_ in ids)
        categories = tuple(one_line(str(rows[id_].get("category") or "")) for id_ in ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not ids or not np.isfinite(scores).all():
        return None
    return Questions(tuple(ids), scores, images, categories)
