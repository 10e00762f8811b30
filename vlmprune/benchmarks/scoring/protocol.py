"""How a language model is asked to judge one answer, and how its reply is read.

A benchmark that is judged says so in its class, `protocol = mmvet.PROTOCOL`; its `score` gives None, and
`vlmprune score` fills in what the judge says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"  # 7, 0.7, .7, 1e-1: neither nan nor 0,7 nor 1_0

Row = dict[str, Any]  # one line of predictions.jsonl
Messages = list[dict[str, str]]  # of an OpenAI-compatible chat: role and content


@dataclass(frozen=True)
class Protocol:
    """name, version: in every verdict's key, so that a changed prompt is asked again.

    messages: a prediction row -> what the judge is sent. parse: the judge's reply -> the verdict, plain numbers; its
    "score" (0..1) is the answer's score. Raises ValueError for a reply that is no verdict, which is then asked again.
    """

    name: str
    version: int
    messages: Callable[[Row], Messages]
    parse: Callable[[str], dict[str, float]]


def number(name: str, text: str, lowest: float, highest: float) -> float:
    """The number that is all of `text`, white space apart. Raises ValueError for another text or one out of range.

    name: of what it is, for the error.
    """
    if re.fullmatch(NUMBER, text.strip()) is None or not lowest <= float(text) <= highest:
        raise ValueError(f"{name} '{text.strip()[:40]}' is no number from {lowest:g} to {highest:g}")
    return abs(float(text)) if float(text) == 0 else float(text)  # "-0" is 0


def verdict(row: Row) -> dict[str, float]:
    """What the judge said about a row. Raises KeyError where it has not been asked."""
    return row["extra"]["verdict"]
