"""Exact match of short answers: as in lmms-eval for GQA, and with numbers kept whole for everything else."""

from __future__ import annotations

import re
import string

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
