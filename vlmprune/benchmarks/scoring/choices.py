"""Multiple choice: the option's letter that an answer names, by rules that are tried in order.

1. The answer is the letter, "B", "b", "(B)", "B.", "**B**", or that and its own text: "B. a dog".
2. The answer is one option's text: "-5", "Solution B", "Both A and B".
3. It begins with the letter: "B. It barks", "(B) It", "B) It", "B: it", "B, because", or "B" and a new line.
4. It says so: the letter after its last "answer is", "answer:", "option is" or "答案是", or before "is correct".
5. It has one letter only after "answer", "option", "choice" or "选", else in brackets, else by itself as a capital; the
   pronoun "I" and an article do not count, such as an "A" that begins a sentence or precedes an option's text.
6. It has one option's text in it; of texts that contain each other the longest.

Letters that are joined name no option: "A or B", "(A) and (C)", "A, B". From rule 3 on, letters and texts that are
refused are ignored ("not A", "neither A nor C", "A is wrong", "rather than A"), and so are letters inside of an
option's text. Full-width letters and signs count as those of ASCII: "（Ｂ）" is "(B)".

If no rule decides, no option is named and the answer is wrong. MMMU's official script then draws an option at random,
and MMBench's asks a language model; these rules do neither.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from vlmprune.benchmarks.scoring.exact import half_width, normalise
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.options import (
    MARK,
    MARKS,
    mark_options,
    marked_letters,
    normalise_clauses,
    without_refusals,
)

METRIC = Metric("accuracy")

# Characters allowed around a letter that is the whole answer.
_FRAME = r"[\s()\[\]{}<>【】《》「」*_.,:;!?\"'`“”‘’。、…$\\-]*"
_ALONE = re.compile(rf"{_FRAME}([A-Za-z]){_FRAME}")
_START = r"(?<![A-Za-z0-9'’.°∠])(?<![A-Za-z0-9]-)"  # "A's", "C#", "X-ray" and "A.M." have no letter by itself
_END = r"(?![A-Za-z0-9'’+#]|[-.][A-Za-z0-9])"
_CAPITAL = re.compile(rf"{_START}([A-HJ-Z]){_END}")
_BRACKETED = re.compile(r"(?<!\w)(?:\\boxed)?[(\[{【]\**([A-Za-z])\**[)\]}】]")
_BEGINS = re.compile(
    rf"(?:[^\w{MARKS}]|_)*(?:([A-Za-z])[*_]*[)\].:、。](?![A-Za-z](?:\.|\W*$))|([A-Z])[*_]*(?:,|[ \t]*\n))"
)
_NOUN = r"(?:answer|option|choice|答案|选项|正解|答え)"
_IS = r"(?:(?:is|was|should be|would be|must be)\b|为|是|应为|应是|应选|选|は|[:=])"
_BETWEEN = rf"[^\w.!?{MARKS}]*"
_SAYS = re.compile(
    rf"{_NOUN}(?:\s+\w+){{0,4}}?\W{{0,3}}{_IS}{_BETWEEN}(?:(?:option|choice|letter|选项){_BETWEEN})?([A-Za-z]){_END}",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    rf"{_START}([A-Z])[)\]*.:]*\s*(?:{MARK}\s*)?(?:(?:is|would be|must be)\s+(?:the\s+)?(?:most\s+)?"
    r"(?:correct|right|true|best|answer)\b|是?(?:正确|对的))"
)
_NAMED = re.compile(rf"(?:answer|option|choice|答案|选项|选择|选){_BETWEEN}([A-Za-z]){_END}", re.IGNORECASE)

_VERB = r"(?:is|was|and|or|nor|but|because|since|as|for|fits|matches|seems|must|would)\b"
_BEFORE_NOUN = re.compile(rf"[ \t]+(?:{MARK}|(?!{_VERB})[a-z])")
_BEFORE_TEXT = re.compile(rf"[ \t]+{MARK}")
_SENTENCE_START = re.compile(r"(?:^|[.!?:。：\n])[\s\"'*_(\[]*$")

_AND = r"\s*(?:,\s*)?(?:\b(?:and|or|nor)\b|[&/、和或与])\s*(?:(?:maybe|perhaps|option|choice)\s+)*"
_JOINED_AFTER = re.compile(
    rf"[)\]}}】*.]*(?:{_AND}[(\[*]*([A-Z](?![A-Za-z'’])|[a-z](?=[)\]]))"
    rf"|\s*[,.:]?\s*[(\[*]*(?:([A-Z])[)\]*]*(?:\s*[,.;]|{_AND}|\s*$)|([a-z])[)\]*.]*\s*$))"
)
_JOINED_BEFORE = re.compile(rf"(?:(?<![A-Za-z'’])([A-Z])|\b([a-z])(?=\)))[)\]}}】*.]*{_AND}[(\[*]*$")
_NEAR = 50  # characters before a letter that are searched for another one that it is joined with
_FOLLOWING = 1_000  # characters after a letter that are searched likewise
_SEVERAL = "?"  # in place of a letter that is joined with another


def letter(prediction: str, choices: Sequence[str]) -> str | None:
    """Return the letter ("A" is choices[0]) that `prediction` names by the rules above, or None.

    choices: the options' texts; "" for one that is known by its letter alone.
    """
    valid = string.ascii_uppercase[: len(choices)]
    options = dict(zip(valid, map(half_width, choices), strict=True))
    text = "\n".join(filter(None, (" ".join(line.split()) for line in half_width(prediction).splitlines())))
    found = _is_letter(text, options) or _is_text(text, options)
    if found:
        return found
    named = without_refusals(mark_options(text, options))
    for rule in (_begins_with_letter, _says_letter, _single_letter):
        found = rule(named, valid)
        if found:
            return found
    normal = {name: normalise_clauses(option) for name, option in options.items()}
    return _only(marked_letters(without_refusals(mark_options(normalise_clauses(text), normal))), valid)


def choice_match(prediction: str, answer: str, choices: Sequence[str]) -> float:
    """Return 1.0 if the prediction names the option whose letter is `answer`, else 0.0."""
    return float(letter(prediction, choices) == answer.strip().upper())


def _is_letter(text: str, options: dict[str, str]) -> str | None:
    if match := _ALONE.fullmatch(text):
        return _only([match[1].upper()], "".join(options))
    match = _BEGINS.match(text)
    name = (match[1] or match[2]).upper() if match else ""
    own = match is not None and normalise(text[match.end() :]) == normalise(options.get(name, "")) != ""
    return name if own else None


def _is_text(text: str, options: dict[str, str]) -> str | None:
    """Return the letter of the option with this text, as written ("aA" and "AA", "C++" and "C#"), else normalised."""
    for form in (str.strip, normalise):
        same = [name for name, option in options.items() if form(option) == form(text) != ""]
        if same:
            return _only(same, "".join(options))
    return None


def _begins_with_letter(text: str, valid: str) -> str | None:
    match = _BEGINS.match(text)
    return _only(_letters([match] if match else [], text, valid), valid)


def _says_letter(text: str, valid: str) -> str | None:
    said = sorted([*_SAYS.finditer(text), *_RIGHT.finditer(text)], key=re.Match.end)
    return _only(_letters(said, text, valid)[-1:], valid)


def _single_letter(text: str, valid: str) -> str | None:
    kinds = (_letters(list(form.finditer(text)), text, valid) for form in (_NAMED, _BRACKETED, _CAPITAL))
    return next((found for letters in kinds if _SEVERAL not in letters and (found := _only(letters, valid))), None)


def _letters(matches: list[re.Match[str]], text: str, valid: str) -> list[str]:
    """Return the letters of matches that are valid and no article; _SEVERAL for one that is joined with another."""
    letters = []
    for match in matches:
        group = match.lastindex or 1
        first, end = match.span(group)
        name, before, after = match[group].upper(), text[max(0, first - _NEAR) : first], text[end : end + _FOLLOWING]
        if name not in valid or (match[group] in "aA" and _is_article(match[group], before, after)):
            continue
        joined = [
            found[found.lastindex or 0].upper()
            for found in (_JOINED_BEFORE.search(before), _JOINED_AFTER.match(after))
            if found
        ]
        letters.append(_SEVERAL if any(other in valid and other != name for other in joined) else name)
    return letters


def _is_article(name: str, before: str, after: str) -> bool:
    starts = name == "a" or _SENTENCE_START.search(before) is not None
    return (_BEFORE_NOUN if starts else _BEFORE_TEXT).match(after) is not None


def _only(letters: list[str], valid: str) -> str | None:
    """Return the one valid letter among `letters`, or None if there is none or more than one."""
    distinct = {found for found in letters if found in valid}
    return distinct.pop() if len(distinct) == 1 else None
