"""ANLS (Biten et al., ICCV 2019): normalised Levenshtein similarity, as in DocVQA's and InfographicVQA's scorer."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("anls")
THRESHOLD = 0.5  # a similarity below it counts as 0


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return the similarity to the nearest accepted answer, 0..1, ignoring case and repeated spaces.

    As published, the distance is between the normalised texts and is divided by the length of the raw ones.
    """
    best = max(_similarity(prediction, answer) for answer in answers)
    return best if best >= THRESHOLD else 0.0


def _similarity(prediction: str, answer: str) -> float:
    length = max(len(prediction), len(answer))
    return 1 - levenshtein(_normalise(prediction), _normalise(answer)) / length if length else 1.0


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(a: str, b: str) -> int:
    """Return the number of insertions, deletions and substitutions that turn `a` into `b`; O(len(a) len(b))."""
    previous = list(range(len(b) + 1))
    for row, letter in enumerate(a, start=1):
        current = [row]
        for column, other in enumerate(b, start=1):
            substituted = previous[column - 1] + (letter != other)
            current.append(min(previous[column] + 1, current[-1] + 1, substituted))
        previous = current
    return previous[-1]
