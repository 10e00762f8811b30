"""POPE (Li et al., EMNLP 2023): yes or no about the presence of an object, in three categories of absent objects.

The answer is read as POPE's own evaluate.py and LLaVA's eval_pope.py do: "no" if the first sentence has the word
"No", "no" or "not", else "yes". So an answer with neither these words nor "yes" counts as "yes"; `unclear` is the
share of such answers.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("f1")  # the mean of the categories' F1, as FasterVLM and VisPruner report it
NO = {"No", "no", "not"}


def parse(prediction: str) -> str:
    """Return "yes" or "no"."""
    words = prediction.split(".")[0].replace(",", "").split(" ")
    return "no" if NO.intersection(words) else "yes"


def score(prediction: str, answer: str) -> float:
    """Return 1.0 if the parsed prediction is the answer ("yes" or "no"), else 0.0."""
    return float(parse(prediction) == answer.strip().lower())


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return f1: mean over the categories; f1_CATEGORY; accuracy, precision, recall, yes_ratio, unclear over all rows.

    yes_ratio: share of predictions that are "yes". Precision without a "yes", or recall without a positive, is 0.
    """
    answers: dict[str, list[tuple[bool, bool]]] = defaultdict(list)  # (predicted, true) is yes, by category
    for row in rows:
        answers[row["category"]].append((parse(row["prediction"]) == "yes", row["answer"].strip().lower() == "yes"))
    every = [pair for pairs in answers.values() for pair in pairs]
    hits, predicted, positives = _counts(every)
    by_category = {name: _f1(*_counts(pairs)) for name, pairs in sorted(answers.items())}
    unclear = sum("yes" not in row["prediction"].lower() and parse(row["prediction"]) == "yes" for row in rows)
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
