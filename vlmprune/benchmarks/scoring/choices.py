"""Scoring of multiple choice: the option that an answer names, CircularEval, and accuracy by category.

Multiple choice: the option's letter that an answer names, by rules that are tried in order.

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

Mentions of the options in an answer: their texts as marks, and the answer without the options that it refuses.

A mark is a character of private use, one for each letter, so that no rule takes words of an option's text for letters.

CircularEval (MMBench, Liu et al., ECCV 2024): a question is right if all rotations of its options are.

Accuracy with the same weight for every category, whatever its size: MVBench's 20 tasks, MMStar's six skills.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlmprune.benchmarks.base import Metric
from vlmprune.benchmarks.scoring.text_match import half_width, normalise

MARKS = "\ue000-\ue019"  # of A to Z, inside a character class
MARK = f"[{MARKS}]"
_LETTERS = {chr(0xE000 + index): letter for index, letter in enumerate(string.ascii_uppercase)}
_MARKS = {letter: mark for mark, letter in _LETTERS.items()}

_WORD = r"[^\W\u2e80-\uffff]"  # in scripts with spaces between words
_CLAUSE_END = re.compile(r"(?<![.,;:!?])[.,;:!?]+(?=\s|$)|[。、]|\n")

_NAME = rf"(?:[(\[*]{{0,3}}(?<![A-Za-z'’])[A-Z](?![A-Za-z'’])[)\]*.:]{{0,3}}(?:\s*{MARK})?|[(\[][a-z][)\]]|{MARK})"
_CONJUNCTION = r"(?:\b(?:and|or|nor)\b|[&/、和或与])"
_LIST = rf"{_NAME}(?:(?:\s*[,|]\s*{_NAME}){{0,6}}(?:\s*[,|]?\s*{_CONJUNCTION}\s*{_NAME}){{1,6}})?"
_SMALL = (
    r"(?:\s(?:be|the|an?|option|choice|answer|letter|think|believe|say|choose|pick|select|that|it|is|it's)){0,6}\s*"
)
_AUXILIARY = r"(?:is|are|was|were|do|does|did|can|could|would|should|must|will|has|have|seems|looks)"
_FALSE = r"(?:incorrect|wrong|false|invalid|inaccurate|impossible|unlikely|excluded|eliminated|ruled out)\b"
_REFUSALS = (
    re.compile(
        rf"(?i:\b(?:neither|rather than|instead of|other than|except(?: for)?|exclud(?:e|ing)|rul(?:e|ing) out))"
        rf"{_SMALL}{_LIST}"
    ),
    re.compile(rf"(?i:\b(?:not|cannot|never|\w+n['’]?t\b)){_SMALL}{_NAME}(?:\s*(?:\b(?:or|nor)\b|/)\s*{_NAME})*"),
    re.compile(rf"(?i:\bno)\s+{MARK}|(?:不是|不选|不会是|并非|而非|排除)\s*{_LIST}"),
    re.compile(
        rf"{_LIST}\s*(?:(?i:{_AUXILIARY}(?:\s+\w+ly)?\s+(?:not|never)|{_AUXILIARY}n['’]?t|cannot)\b(?!\s+{_FALSE})"
        rf"|(?i:{_AUXILIARY})\s+(?:(?:be|been|the|an?|\w+ly)\s+)*{_FALSE}|[是都]?(?:不对|不正确|不符|不是|错))"
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


def remove_refusals(text: str) -> str:
    """Return a marked text without the letters and marks that it refuses, and without the words of refusal."""
    for refusal in _REFUSALS:
        text = refusal.sub(" ", text)
    return text


def normalise_clauses(text: str) -> str:
    """Return the normalised text with " | " at the end of each clause: "No, a dog" refuses nothing, "no dog" does."""
    return " | ".join(filter(None, map(normalise, _CLAUSE_END.split(text))))


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
    named = remove_refusals(mark_options(text, options))
    for rule in (_begins_with_letter, _says_letter, _single_letter):
        found = rule(named, valid)
        if found:
            return found
    normal = {name: normalise_clauses(option) for name, option in options.items()}
    return _only(marked_letters(remove_refusals(mark_options(normalise_clauses(text), normal))), valid)


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


CIRCULAR_ACCURACY = Metric("accuracy")
ROTATION = 1_000_000  # MMBench's index of rotation r of question q is q + r * ROTATION


def question_of_row(row: dict[str, Any]) -> int:
    """Return the question that a row is a rotation of. Reads extra["index"], MMBench's own number."""
    return question_of_index(row["extra"]["index"])


def question_of_index(index: Any) -> int:
    """Return the question that MMBench's own number `index` is a rotation of."""
    return int(index) % ROTATION


def summarise_circular(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: questions right under all their rotations in `rows`; vanilla_accuracy: rows right; questions."""
    scores: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        scores[question_of_row(row)].append(row["score"])
    return {
        "accuracy": sum(min(values) for values in scores.values()) / len(scores),
        "vanilla_accuracy": sum(row["score"] for row in rows) / len(rows),
        "questions": float(len(scores)),
    }


GROUPED_ACCURACY = Metric("accuracy")


def summarise_grouped(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: mean of the categories' mean scores; question_accuracy: mean over all rows."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[row["category"]].append(row["score"])
    return {
        "accuracy": sum(sum(values) / len(values) for values in scores.values()) / len(scores),
        "question_accuracy": sum(row["score"] for row in rows) / len(rows),
    }
