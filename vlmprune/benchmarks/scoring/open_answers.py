"""MMMU's open questions (Yue et al., CVPR 2024): a search for the answer in the conclusions of the prediction.

As in its official eval_utils.py: the conclusion of a line is the text after its last "is", "so", "thus", "answer" ...,
numbers are compared as numbers rounded to two decimals, texts by containment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
LAST_LINE_CUES = (*CUES, "=")  # the last line may be an equation
TRIVIAL = {":", ",", ".", "!", "?", ";", "'"}

NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,234
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1.2e-3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # 12, 1.5, .5
)


def open_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if one of `answers` is among the prediction's conclusions or their numbers, else 0.0."""
    accepted = [value for answer in answers for value in _values(answer)]
    texts = [value for value in accepted if isinstance(value, str)]
    numbers = {value for value in accepted if isinstance(value, float)}
    for value in candidates(prediction):
        if isinstance(value, float):
            if value in numbers:
                return 1.0
        elif any(text in value for text in texts):
            return 1.0
    return 0.0


def candidates(prediction: str) -> list[str | float]:
    """Return the conclusions of a prediction and the numbers in them, each as `open_match` compares it."""
    conclusions = _conclusions(prediction)
    numbers = [number for text in conclusions for form in NUMBERS for number in form.findall(text)]
    return [value for text in conclusions + numbers for value in _values(text)]


def _conclusions(prediction: str) -> list[str]:
    """Return the shortest text after a cue of each line; the whole prediction if no line has a cue."""
    text = prediction.strip().strip(".").lower()
    lines = text.split("\n")
    found = []
    for index, line in enumerate(lines):
        cues = LAST_LINE_CUES if index == len(lines) - 1 else CUES
        tail = ""
        for conclusion in (line.split(cue)[-1].strip() for cue in cues if cue in line):
            if not tail or len(conclusion) < len(tail):
                tail = conclusion
        if tail and tail not in TRIVIAL:
            found.append(tail)
    return found or [text]


def _values(text: str) -> list[str | float]:
    """Return a number as a float of two decimals, a text in lower case; a single letter must be at a word's edge."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
