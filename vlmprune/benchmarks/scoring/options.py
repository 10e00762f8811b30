"""Mentions of the options in an answer: their texts as marks, and the answer without the options that it refuses.

A mark is a character of private use, one for each letter, so that no rule takes words of an option's text for letters.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from vlmprune.benchmarks.scoring.exact import normalise

MARKS = "\ue000-\ue019"  # of A to Z, inside a character class
MARK = f"[{MARKS}]"
_LETTERS = {chr(0xE000 + index): letter for index, letter in enumerate(string.ascii_uppercase)}
_MARKS = {letter: mark for mark, letter in _LETTERS.items()}

_WORD = r"[^\W\u2e80-\uffff]"  # in scripts with spaces between words
_CLAUSE_END = re.compile(r"(?<![.,;:!?])[.,;:!?]+(?=\s|$)|[。、]|\n")

_NAME = rf"(?:[(\[*]{{0,3}}(?<![A-Za-z'’])[A-Z](?![A-Za-z'’])[)\]*.:]{{0,3}}(?:\s*{MARK})?|[(\[][a-z][)\]]|{MARK})"
_AND = r"(?:\b(?:and|or|nor)\b|[&/、和或与])"
_LIST = rf"{_NAME}(?:(?:\s*[,|]\s*{_NAME}){{0,6}}(?:\s*[,|]?\s*{_AND}\s*{_NAME}){{1,6}})?"
_SMALL = (
    r"(?:\s(?:be|the|an?|option|choice|answer|letter|think|believe|say|choose|pick|select|that|it|is|it's)){0,6}\s*"
)
_VERB = r"(?:is|are|was|were|do|does|did|can|could|would|should|must|will|has|have|seems|looks)"
_FALSE = r"(?:incorrect|wrong|false|invalid|inaccurate|impossible|unlikely|excluded|eliminated|ruled out)\b"
_REFUSALS = (
    re.compile(
        rf"(?i:\b(?:neither|rather than|instead of|other than|except(?: for)?|exclud(?:e|ing)|rul(?:e|ing) out))"
        rf"{_SMALL}{_LIST}"
    ),
    re.compile(rf"(?i:\b(?:not|cannot|never|\w+n['’]?t\b)){_SMALL}{_NAME}(?:\s*(?:\b(?:or|nor)\b|/)\s*{_NAME})*"),
    re.compile(rf"(?i:\bno)\s+{MARK}|(?:不是|不选|不会是|并非|而非|排除)\s*{_LIST}"),
    re.compile(
        rf"{_LIST}\s*(?:(?i:{_VERB}(?:\s+\w+ly)?\s+(?:not|never)|{_VERB}n['’]?t|cannot)\b(?!\s+{_FALSE})"
        rf"|(?i:{_VERB})\s+(?:(?:be|been|the|an?|\w+ly)\s+)*{_FALSE}|[是都]?(?:不对|不正确|不符|不是|错))"
    ),
)


def mark_options(text: str, options: Mapping[str, str]) -> str:
    """Return `text` with a mark in place of each option's text, whatever its case; the longer texts first.

    options: letter -> text. Texts are found as whole words and whole numbers, in scripts with spaces between words.
    """
    for option in sorted({" ".join(option.split()) for option in options.values()}, key=len, reverse=True):
        if not option:
            continue
        named = [letter for letter, other in options.items() if " ".join(other.split()) == option]
        marks = "".join(_MARKS[letter] for letter in named)
        if option.upper() in options:  # the text is another option's letter: marked in "A. B" alone
            text = re.sub(rf"(?<![A-Za-z])([{''.join(named)}][)\].:,*]*\s+){option}(?![A-Za-z])", rf"\1{marks}", text)
            continue
        start = rf"(?<!{_WORD})" if re.match(_WORD, option) else ""
        start += r"(?<![-<>.])(?<!\d[^\w\s])" if option[0].isdigit() else r"(?<!\d)" if option[0] in "-.<>" else ""
        end = rf"(?!{_WORD}|[^\w\s]\d)" if re.match(_WORD, option[-1]) else ""
        end += r"(?!['’]|\s\w)" if option in ("I", "i") else ""  # the pronoun
        words = r"\s+".join(re.escape(word) for word in option.split())
        text = re.sub(f"{start}{words}{end}", f" {marks} ", text, flags=re.IGNORECASE)
    return text


def marked_letters(text: str) -> list[str]:
    """Return the letters of the marks in a text, in order."""
    return [_LETTERS[character] for character in text if character in _LETTERS]


def without_refusals(text: str) -> str:
    """Return a marked text without the letters and marks that it refuses, and without the words of refusal."""
    for refusal in _REFUSALS:
        text = refusal.sub(" ", text)
    return text


def normalise_clauses(text: str) -> str:
    """Return the normalised text with " | " at the end of each clause: "No, a dog" refuses nothing, "no dog" does."""
    return " | ".join(filter(None, map(normalise, _CLAUSE_END.split(text))))
