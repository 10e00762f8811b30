"""Exact match of short answers, as GQA and the embedded scenes score them."""

from __future__ import annotations

import string

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def normalise(text: str) -> str:
    """Lower case, no punctuation, single spaces."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 where the two are the same after `normalise`, else 0.0."""
    return float(normalise(prediction) == normalise(answer))


def as_digits(text: str) -> str:
    """ "Three." as "3", up to ten, as lmms-eval reads RealWorldQA's answers; any other text as it is."""
    word = normalise(text)
    return str(_NUMBERS.index(word)) if word in _NUMBERS else text
