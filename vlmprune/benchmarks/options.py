"""Options of a multiple-choice question as data store them, and the options that a stored answer names.

An option keeps the index, and so the letter, that it has in the data: a missing one is "" there.
"""

from __future__ import annotations

import ast
import json
import re
import string
from typing import Any

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.columns import present, shown

LETTERS = string.ascii_uppercase
LETTERED = re.compile(r"^\(?([A-H])[.):]\s*")  # options that already carry their letter


def read_options(value: Any, answer_is: str) -> list[str]:
    """Return the options' texts without letters, "" for a missing one, up to the last one; [] for no options.

    value: a list, a list written as text, or {"A": text, ...}. answer_is: as in `MultipleChoice`. Raises BadSample for
    anything else.
    """
    if isinstance(value, str):
        value = _written(value)
    if isinstance(value, dict):
        value = _by_letter(value)
    if not isinstance(value, list | tuple | None):
        raise BadSample(f"its choices are not a list: {str(value)[:60]}")
    for option in value or []:
        if isinstance(option, list | dict):
            raise BadSample(f"its choice {str(option)[:60]} is no text")
    options = [shown(option) if present(option) else "" for option in value or []]
    while options and not options[-1]:
        options.pop()
    if len(options) > len(LETTERS):
        raise BadSample(f"it has {len(options)} choices; there are letters for {len(LETTERS)}")
    return _without_letters(options, placed=answer_is == "letter")


def named_options(text: str, options: list[str], answer_is: str) -> set[str]:
    """Return the letters of the options that a stored answer names. answer_is: as in `MultipleChoice`."""
    there = {letter: option.strip() for letter, option in zip(LETTERS, options, strict=False) if option}
    by_letter = {text.upper()} & there.keys()
    same = (text, LETTERED.sub("", text))
    by_text = {letter for letter, option in there.items() if option in same}
    if answer_is == "letter":
        return by_letter
    if answer_is == "index":
        return {LETTERS[int(text)]} & there.keys() if text.isdecimal() and int(text) < len(options) else set()
    # The official scorers take the first of two equal options.
    return set(sorted(by_text)[:1]) if answer_is == "text" else by_letter | by_text


def is_letter(answer: str) -> bool:
    """Return True if an answer is one letter of the alphabet."""
    return len(answer) == 1 and answer.upper() in LETTERS


def _written(text: str) -> Any:
    """Return the list that a text holds in Python's or JSON's notation; None for a blank text. Raises BadSample."""
    if not text.strip():
        return None
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise BadSample(f"its choices are not a list: {text[:60]}")


def _by_letter(options: dict[str, Any]) -> list[Any]:
    """Return the values of {"A": text, "C": text} in the order of their letters, None for a letter that is left out."""
    if not all(isinstance(name, str) and is_letter(name) for name in options):
        raise BadSample(f"its choices are an object with {', '.join(map(str, options))[:60]}; expected a list of texts")
    texts = {name.upper(): text for name, text in options.items()}
    return [texts.get(letter) for letter in LETTERS[: LETTERS.index(max(texts, default="A")) + 1]]


def _without_letters(options: list[str], placed: bool) -> list[str]:
    """Return "A. a dog" as "a dog" if every option carries the letter of its index.

    placed: move options that carry other letters to the index of that letter, which an answer's letter refers to.
    """
    matches = {k: match for k, option in enumerate(options) if (match := LETTERED.match(option))}
    texts = {match[1]: options[k][match.end() :] for k, match in matches.items()}
    if not texts or len(texts) < sum(
        map(bool, options)
    ):  # some have none, or two have the same: letters are part of the text
        return options
    if placed or all(match[1] == LETTERS[k] for k, match in matches.items()):
        return [texts.get(letter, "") for letter in LETTERS[: LETTERS.index(max(texts)) + 1]]
    return options  # "C. elegans"
