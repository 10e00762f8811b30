"""WUPS@0 (Malinowski & Fritz, NeurIPS 2014), as NExT-OE's metrics.py scores NExT-QA's open answers (Xiao et al., 2021).

Both answers are reduced to the lemmas that are no stop words; every lemma is matched with the most similar one of the
other answer, and the similarities are multiplied, in both directions; the smaller product counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("wups")  # published times 100
EXACT_TYPES = ("DC", "DB")  # counting and yes-or-no questions: the answers' words must be the same


class Lexicon(Protocol):
    """Interface of the functions of WordNet that WUPS needs: see wordnet.py."""

    def content_words(self, text: str) -> list[str]:
        """Return the lemmas of a text without stop words, in order."""
        ...

    def similarity(self, a: str, b: str) -> float:
        """Return the Wu-Palmer similarity of two words' first meanings, 0..1; 0 if one has none."""
        ...


def score(prediction: str, answers: Sequence[str], question_type: str, lexicon: Lexicon) -> float:
    """Return the best WUPS@0 over the accepted answers, 0..1. question_type: NExT-QA's, such as CW or DC."""
    words = lexicon.content_words(prediction)
    expected = [lexicon.content_words(answer) for answer in answers]
    if question_type in EXACT_TYPES:
        return float(words in expected)
    return max(wups(words, other, lexicon.similarity) for other in expected)


def wups(a: Sequence[str], b: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """Return WUPS@0 of two lists of words, 0..1; symmetric."""
    return min(_one_way(a, b, similarity), _one_way(b, a, similarity))


def _one_way(words: Sequence[str], others: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """Return the product of the words' best matches. As published, words without a match are left out; 0 if all are."""
    best = [max((1.0 if word == other else similarity(word, other) for other in others), default=0.0) for word in words]
    product = 1.0
    for value in best:
        product *= value or 1.0
    return product if any(best) else 0.0
