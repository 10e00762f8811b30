"""MME (Fu et al., 2023): two yes-or-no questions about every image; accuracy and accuracy+ per subtask, as in its tool.

accuracy: questions that are right; accuracy+: images with both right. A subtask's score is the sum of both in percent,
0..200; perception is the sum of ten (0..2000), cognition of four (0..800), the total 0..2800.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("perception", 0.0, 2000.0)  # what the pruning papers call "MME"

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def parse(prediction: str) -> str:
    """Return "yes", "no" or "other", read from the first four characters in lower case."""
    start = prediction.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def score(prediction: str, answer: str) -> float:
    """Return 1.0 if the parsed prediction is the answer, else 0.0."""
    return float(parse(prediction) == answer.strip().lower().rstrip("."))


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return perception, cognition, total; per subtask NAME (0..200), NAME_accuracy, NAME_accuracy_plus (fractions).

    single_images: images with only one question in the set, as in a subset; their accuracy+ is that question's.
    """
    correct: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        correct[row["category"]][row["image_id"]].append(score(row["prediction"], row["answer"]))
    metrics: dict[str, float] = {}
    for name, images in sorted(correct.items()):
        answers = [value for values in images.values() for value in values]
        accuracy = sum(answers) / len(answers)
        accuracy_plus = sum(min(values) for values in images.values()) / len(images)
        metrics |= {
            name: 100 * (accuracy + accuracy_plus),
            f"{name}_accuracy": accuracy,
            f"{name}_accuracy_plus": accuracy_plus,
        }
    perception = sum(metrics.get(name, 0.0) for name in PERCEPTION)
    cognition = sum(metrics.get(name, 0.0) for name in COGNITION)
    single = sum(len(values) == 1 for images in correct.values() for values in images.values())
    return {
        "perception": perception,
        "cognition": cognition,
        "total": perception + cognition,
        **metrics,
        "single_images": float(single),
    }
