"""Protocol of a judge: the messages that ask a language model to judge one answer, and the parser of its reply.

A judged benchmark declares it in its class, `protocol = mmvet.PROTOCOL`; its `score` gives None, and
`vlmprune score` fills in the judge's score.
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
    """Protocol of a judge. name, version: part of every verdict's key, so that a changed prompt is asked again.

    messages: a prediction row -> the messages to the judge. parse: the judge's reply -> the verdict, plain numbers; its
    "score" (0..1) is the answer's score. Raises ValueError for a reply that is no verdict, which is then asked again.
    """

    name: str
    version: int
    messages: Callable[[Row], Messages]
    parse: Callable[[str], dict[str, float]]


def number(name: str, text: str, lowest: float, highest: float) -> float:
    """Return the number that `text` is, apart from white space. Raises ValueError for other text or out of range.

    name: of the number, for the error.
    """
    if re.fullmatch(NUMBER, text.strip()) is None or not lowest <= float(text) <= highest:
        raise ValueError(f"{name} '{text.strip()[:40]}' is no number from {lowest:g} to {highest:g}")
    return abs(float(text)) if float(text) == 0 else float(text)  # "-0" is 0


def verdict(row: Row) -> dict[str, float]:
    """Return the judge's verdict on a row. Raises KeyError if it has not been asked."""
    return row["extra"]["verdict"]
