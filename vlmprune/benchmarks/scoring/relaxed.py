"""Relaxed accuracy (Methani et al., WACV 2020; ChartQA, Masry et al., ACL Findings 2022): numbers within 5 %."""

from __future__ import annotations

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("relaxed_accuracy")
TOLERANCE = 0.05  # relative to the answer, inclusive


def relaxed_match(prediction: str, answer: str) -> float:
    """Return 1.0 if both are numbers at most 5 % apart, or the same text apart from case; else 0.0.

    "12%" is 0.12. There is no relative distance to zero: an answer of 0 must be given as text. Thousands separators and
    units are not read, as in the published scorer.
    """
    prediction, answer = prediction.strip(), answer.strip()
    predicted, expected = _number(prediction), _number(answer)
    if predicted is not None and expected:
        return float(abs(predicted - expected) / abs(expected) <= TOLERANCE)
    return float(prediction.lower() == answer.lower())


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
