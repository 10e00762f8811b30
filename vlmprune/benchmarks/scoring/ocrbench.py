"""OCRBench (Liu et al., 2023): 1,000 questions of ten types; right if an accepted answer occurs in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmprune.benchmarks.base import Metric

METRIC = Metric("ocrbench", 0.0, 1000.0)  # correct answers of 1,000; a subset is scaled to 1,000
FORMULAE = "HME100k"  # handwritten formulae: case matters, spaces do not

GROUPS = {
    "text_recognition": (
        "Regular Text Recognition",
        "Irregular Text Recognition",
        "Artistic Text Recognition",
        "Handwriting Recognition",
        "Digit String Recognition",
        "Non-Semantic Text Recognition",
    ),
    "scene_text_vqa": ("Scene Text-centric VQA",),
    "document_vqa": ("Doc-oriented VQA",),
    "information_extraction": ("Key Information Extraction",),
    "formula_recognition": ("Handwritten Mathematical Expression Recognition",),
}


def contains_answer(prediction: str, answers: Sequence[str], dataset: str = "") -> float:
    """Return 1.0 if one of `answers` occurs in the prediction, else 0.0. dataset: the source; HME100k has formulae."""
    prepare = _formula if dataset == FORMULAE else _text
    return float(any(prepare(answer) in prepare(prediction) for answer in answers))


def _text(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return ocrbench: 0..1000; each of GROUPS that has rows: its fraction of right answers, by the row's category."""
    metrics = {"ocrbench": 1000 * sum(row["score"] for row in rows) / len(rows)}
    for group, types in GROUPS.items():
        scores = [row["score"] for row in rows if row["category"] in types]
        if scores:
            metrics[group] = sum(scores) / len(scores)
    return metrics
