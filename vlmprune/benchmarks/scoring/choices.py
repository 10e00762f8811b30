"""Multiple choice: which option's letter an answer names, by rules that are tried in order.

1. The answer is the letter: "B", "b", "(B)", "B.", "**B**".
2. It begins with the letter: "B. a dog", "(B) a dog", "B) a dog", "B: a dog", "B, because", or "B" and a new line.
3. It says so: the letter after the last "answer is", "answer:", "option", "choice" or "答案是".
4. One letter only stands in brackets, "(B)", or by itself as a capital; an article "A" or pronoun "I" does not count.
5. The answer is one option's text, or has one option's text in it; of options that contain each other the longest.

Where none decides, no option is named and the answer is wrong. Nothing is drawn at random, as MMMU's official script
does, and no language model is asked, as MMBench's does.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from vlmprune.benchmarks.scoring.exact import normalise
from vlmprune.benchmarks.scoring.metric import Metric

METRIC = Metric("accuracy")

_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_ANOTHER = r"(?!\s*(?:and|or|&|/)\s*[(（]?[A-Z](?![A-Za-z]))"  # "(A) and (B)" names no one option
_BEGINS = re.compile(rf"[\W_]*(?:([A-Za-z])[).:：](?![A-Za-z]\b){_ANOTHER}|([A-Z])(?:,|[ \t]*\n))")
_SAYS = re.compile(
    r"(?:answer|option|choice|答案|选项|选)\s*(?:is|为|是)?[\s:：]*[^\w\s]*([A-Z])(?![A-Za-z0-9'])", re.IGNORECASE
)
_BRACKETED = re.compile(r"[(（]([A-Z])[)）]")
_CAPITAL = re.compile(r"(?<![A-Za-z0-9'.])(?:(?!A (?!(?:and|or|is)\b)[a-z]|I\b)([A-Z]))(?![A-Za-z0-9']|\.[A-Za-z])")


def letter(prediction: str, choices: Sequence[str]) -> str | None:
    """The letter ("A" is choices[0]) that `prediction` names by the rules above, or None.

    choices: the options' texts; "" for one that is known by its letter alone.
    """
    valid = string.ascii_uppercase[: len(choices)]
    text = prediction.strip()
    for rule in (_is_letter, _begins_with_letter, _says_letter, _single_letter):
        found = rule(text, valid)
        if found is not None:
            return found
    return _option_text(text, choices, valid)


def choice_match(prediction: str, answer: str, choices: Sequence[str]) -> float:
    """1.0 where the prediction names the option whose letter is `answer`, else 0.0."""
    return float(letter(prediction, choices) == answer.strip().upper())


def _is_letter(text: str, valid: str) -> str | None:
    return _only([match.group(1).upper() for match in [_ALONE.fullmatch(text)] if match], valid)


def _begins_with_letter(text: str, valid: str) -> str | None:
    return _only([(match[1] or match[2]).upper() for match in [_BEGINS.match(text)] if match], valid)


def _says_letter(text: str, valid: str) -> str | None:
    # re.IGNORECASE is for the phrase: the letter itself must be a capital, or "option a" of an article would count.
    return _only([found for found in _SAYS.findall(text) if found.isupper()][-1:], valid)


def _single_letter(text: str, valid: str) -> str | None:
    return _only(_BRACKETED.findall(text), valid) or _only(_CAPITAL.findall(text), valid)


def _only(letters: list[str], valid: str) -> str | None:
    """The one valid letter among `letters`, or None where there is none or more than one."""
    distinct = {found for found in letters if found in valid}
    return distinct.pop() if len(distinct) == 1 else None


def _option_text(text: str, choices: Sequence[str], valid: str) -> str | None:
    answer = normalise(text)
    options = {name: normalise(choice) for name, choice in zip(valid, choices, strict=True)}
    same = [name for name, option in options.items() if option and option == answer]
    if same:
        return _only(same, valid)
    named = {name: option for name, option in options.items() if option and _occurs(option, answer)}
    longest = [name for name, option in named.items() if not any(_within(option, other) for other in named.values())]
    return _only(longest, valid)


def _occurs(option: str, answer: str) -> bool:
    """As whole words, where words are of Latin letters."""
    return re.search(rf"(?<![a-z0-9]){re.escape(option)}(?![a-z0-9])", answer) is not None


def _within(option: str, other: str) -> bool:
    return option != other and _occurs(option, other)
