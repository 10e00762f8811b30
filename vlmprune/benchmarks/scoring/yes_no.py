"""Scores of yes-or-no questions: POPE and MME.

POPE (Li et al., EMNLP 2023): yes or no about the presence of an object, in three categories of absent objects.

The answer is read as POPE's own evaluate.py and LLaVA's eval_pope.py do: "no" if the first sentence has the word
"No", "no" or "not", else "yes". So an answer with neither these words nor "yes" counts as "yes"; `unclear` is the
share of such answers.

MME (Fu et al., 2023): two yes-or-no questions about every image; accuracy and accuracy+ per subtask, as in its tool.

accuracy: questions that are right; accuracy+: images with both right. A subtask's score is the sum of both in percent,
0..200; perception is the sum of ten (0..2000), cognition of four (0..800), the total 0..2800.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.base import Metric

POPE_F1 = Metric("f1")  # the mean of the categories' F1, as FasterVLM and VisPruner report it
NO = {"No", "no", "not"}


def parse_pope(prediction: str) -> str:
    """Return "yes" or "no"."""
    words = prediction.split(".")[0].replace(",", "").split(" ")
    return "no" if NO.intersection(words) else "yes"


def score_pope(prediction: str, answer: str) -> float:
    """Return 1.0 if the parsed prediction is the answer ("yes" or "no"), else 0.0."""
    return float(parse_pope(prediction) == answer.strip().lower())


def summarise_pope(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return f1: mean over the categories; f1_CATEGORY; accuracy, precision, recall, yes_ratio, unclear over all rows.

    yes_ratio: share of predictions that are "yes". Precision without a "yes", or recall without a positive, is 0.
    """
    answers: dict[str, list[tuple[bool, bool]]] = defaultdict(list)  # (predicted, true) is yes, by category
    for row in rows:
        answers[row["category"]].append(
            (parse_pope(row["prediction"]) == "yes", row["answer"].strip().lower() == "yes")
        )
    every = [pair for pairs in answers.values() for pair in pairs]
    hits, predicted, positives = _counts(every)
    by_category = {name: _f1(*_counts(pairs)) for name, pairs in sorted(answers.items())}
    unclear = sum("yes" not in row["prediction"].lower() and parse_pope(row["prediction"]) == "yes" for row in rows)
    return {
        "f1": sum(by_category.values()) / len(by_category),
        "accuracy": sum(said == true for said, true in every) / len(every),
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / positives if positives else 0.0,
        "yes_ratio": predicted / len(every),
        "unclear": unclear / len(every),
        **{f"f1_{name}": value for name, value in by_category.items()},
    }


def _counts(pairs: list[tuple[bool, bool]]) -> tuple[int, int, int]:
    """Return true positives, predicted positives, positives."""
    return sum(said and true for said, true in pairs), sum(said for said, _ in pairs), sum(true for _, true in pairs)


def _f1(hits: int, predicted: int, positives: int) -> float:
    """Return 2 P R / (P + R), in a form whose denominator is zero only without positives of either kind; 0 then."""
    return 2 * hits / (predicted + positives) if predicted + positives else 0.0


MME_PERCEPTION = Metric("perception", 0.0, 2000.0)  # what the pruning papers call "MME"

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


def parse_mme(prediction: str) -> str:
    """Return "yes", "no" or "other", read from the first four characters in lower case."""
    start = prediction.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def score_mme(prediction: str, answer: str) -> float:
    """Return 1.0 if the parsed prediction is the answer, else 0.0."""
    return float(parse_mme(prediction) == answer.strip().lower().rstrip("."))


def summarise_mme(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return perception, cognition, total; per subtask NAME (0..200), NAME_accuracy, NAME_accuracy_plus (fractions).

    single_images: images with only one question in the set, as in a subset; their accuracy+ is that question's.
    """
    correct: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        correct[row["category"]][row["image_id"]].append(score_mme(row["prediction"], row["answer"]))
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
