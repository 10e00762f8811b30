"""Matches of short texts: exact match, ANLS, and relaxed accuracy.

Exact match of short answers: as in lmms-eval for GQA, and with numbers kept whole for everything else.

ANLS (Biten et al., ICCV 2019): normalised Levenshtein similarity, as in DocVQA's and InfographicVQA's scorer.

Relaxed accuracy (Methani et al., WACV 2020; ChartQA, Masry et al., ACL Findings 2022): numbers within 5 %.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from vlmprune.benchmarks.base import Metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}  # ASCII in Chinese texts
_SIGNS = str.maketrans("−–‒﹣⁄∕∶", "----//:")  # variants of signs of ASCII
# Punctuation and marks of units: ASCII, Latin, general, Chinese.
_MARK = r"[!-/:-@\[-`{-~¡§«»¿°¢£¥‐-‧‰-⁞₠-⃀、。〈-】〔-〟・]"
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
_KEPT_OR_MARK = re.compile(
    rf"((?<=\d){_MARK}+(?=\d)"  # 3.5, 1/2, 10:30, 2-3, 3,5
    r"|(?<!\w)[-<>](?=[$€£¥]?\.?\d)"  # -3, <5, -$3
    rf"|(?<!\w)\.(?=\d))|{_MARK}"  # .5
)


def exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 if the two are the same after `normalise`, else 0.0."""
    return float(normalise(prediction) == normalise(answer))


def gqa_match(prediction: str, answer: str) -> float:
    """Return 1.0 if the two are the same in lower case, without any punctuation, with single spaces, else 0.0 (GQA)."""
    return float(_bare(prediction) == _bare(answer))


def normalise(text: str) -> str:
    """Return text in lower case, with single spaces, full-width characters as ASCII, and punctuation in numbers alone.

    A number keeps its minus, "<" and ">", its point, and all marks between two digits: -3, .5, 1/2, 10:30, 3,5.
    The commas of thousands, a plus, and the marks of units ("$", "%", "°") go: "1,000" is "1000", "50%" is "50".
    """
    text = half_width(text).translate(_SIGNS).lower()
    text = _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text)
    return " ".join(_KEPT_OR_MARK.sub(lambda match: match[1] or "", text).split())


def half_width(text: str) -> str:
    """Return text with the full-width letters, digits and signs of Chinese texts as ASCII: "（Ｂ）" is "(B)"."""
    return text.translate(_FULL_WIDTH)


def as_digits(text: str) -> str:
    """Return "3" for "Three.", up to ten, as lmms-eval reads RealWorldQA's answers; any other text unchanged."""
    word = _bare(text)
    return str(_NUMBERS.index(word)) if word in _NUMBERS else text


def _bare(text: str) -> str:
    return " ".join(text.lower().translate(_PUNCTUATION).split())


ANLS = Metric("anls")
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


RELAXED_ACCURACY = Metric("relaxed_accuracy")
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
