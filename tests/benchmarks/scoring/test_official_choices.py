"""A grammar of answers, read by our rules and by the benchmarks' own: every difference is in docs/scoring.md."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.benchmarks.scoring.official_choices import RULES
from vlmprune.benchmarks.scoring.choices import letter

DOCS = (Path(__file__).parents[3] / "docs" / "scoring.md").read_text()

SETS = (
    ("a dog", "a cat", "two birds", "at night"),
    ("5", "-5", "12", "1/2"),
    ("Solution A", "Solution B", "Both A and B", "none of these"),
    ("Yes", "No", "unclear", "red"),
)

# Form -> the letter that it means: L, M or none. t and u are the texts of L and M.
FORMS = {
    "{L}": "L",
    "{L}.": "L",
    "({L})": "L",
    "{L})": "L",
    "**{L}**": "L",
    "{l}": "L",
    "({l})": "L",
    "（{W}）": "L",
    "{W}。": "L",
    "{L}. {t}": "L",
    "({L}) {t}": "L",
    "{L}: {t}": "L",
    "{L}\n{t}": "L",
    "The answer is {L}.": "L",
    "The answer is {l}.": "L",
    "The answer is ({L}).": "L",
    "Answer: {L}": "L",
    "Option {L}": "L",
    "I think it's {L}": "L",
    "答案是{L}": "L",
    "{t}": "L",
    "{t}.": "L",
    "The answer is {t}": "L",
    "I think that it is {t} indeed": "L",
    "({L}) is incorrect; ({M}) is correct.": "M",
    "{L} is wrong. The answer is {M}": "M",
    "not {L} but {M}": "M",
    "Neither {L} nor {O}; {M}": "M",
    "{M}, not {L}": "M",
    "{M} rather than {L}": "M",
    "It is not {t} but {u}": "M",
    "It is not {L}.": "none",
    "It is not {t}.": "none",
    "{L} and {M}": "none",
    "({L}) or ({M})": "none",
    "{L}, {M}": "none",
    "{L}. {M}.": "none",
    "The answer is {L} or {M}.": "none",
    "{t}, {u}": "none",
    "A lion": "none",
    "E": "none",
    "I cannot tell": "none",
    "": "none",
}


def answers(form):
    """(text, options, name of each letter) for every way to fill a form."""
    for texts in SETS:
        for first, second in itertools.permutations(range(4), 2):
            other = min({0, 1, 2, 3} - {first, second})
            names = {"L": "ABCD"[first], "M": "ABCD"[second], "O": "ABCD"[other]}
            fill = names | {"l": names["L"].lower(), "W": chr(ord(names["L"]) + 0xFEE0)}
            text = form.format(t=texts[first], u=texts[second], **fill)
            yield text, dict(zip("ABCD", texts, strict=True)), names


@pytest.mark.parametrize("form", FORMS)
def test_ours_names_the_letter_that_is_meant(form):
    for text, options, names in answers(form):
        assert letter(text, list(options.values())) == names.get(FORMS[form]), (text, options)


def outcome(found, names):
    """A rule's letters in the form's own words."""
    if len(found) > 1:
        return "any"
    return next(
        (name for name, value in names.items() if {value} == found and name != "O"), "none" if not found else "x"
    )


def difference(form, rule):
    """The other outcomes of a rule, in the order L, M, x (another letter), any, none; "" where it reads all as ours."""
    seen = set()
    for text, options, names in answers(form):
        found = rule(text, options)
        if found != {letter(text, list(options.values()))} - {None}:
            seen.add(outcome(found, names))
    return ", ".join(name for name in ("L", "M", "x", "any", "none") if name in seen)


def table():
    """The Markdown rows of docs/scoring.md: forms of which a rule reads some answer otherwise."""
    lines = [f"| answer | means | {' | '.join(RULES)} |", f"| --- | --- | {' | '.join('---' for _ in RULES)} |"]
    for form, meaning in FORMS.items():
        cells = [difference(form, rule) for rule in RULES.values()]
        if any(cells):
            shown = form.replace("\n", " ⏎ ") or " "
            lines.append(f"| `{shown}` | {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_every_difference_from_the_official_rules_is_listed():
    assert table() in DOCS, f"write it anew:\n{table()}"


@pytest.mark.parametrize("rule", RULES)
def test_all_rules_read_the_answer_that_the_prompt_asks_for(rule):
    assert difference("{L}", RULES[rule]) == ""
