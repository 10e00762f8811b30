"""WUPS@0 with a small lexicon in place of WordNet."""

import sys

import pytest

from vlmprune.benchmarks.scoring.wups import WordNet, score, wups
from vlmprune.errors import UserError

SIMILAR = {frozenset({"dog", "cat"}): 0.8, frozenset({"run", "walk"}): 0.5}


class Small:
    """Splits at spaces; knows two pairs of similar words."""

    def content_words(self, text):
        return [word for word in text.lower().split() if word != "the"]

    def similarity(self, a, b):
        return SIMILAR.get(frozenset({a, b}), 0.0)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("the dog", "dog", 1.0),
        ("dog", "cat", 0.8),
        ("dog run", "cat walk", 0.4),  # 0.8 * 0.5 in both directions
        ("dog", "dog run", 1.0),  # as published, a word that matches nothing is left out
        ("tree", "dog", 0.0),
        ("", "dog", 0.0),
    ],
)
def test_wups(prediction, answer, expected):
    assert score(prediction, [answer], "CW", Small()) == pytest.approx(expected)
    assert score(answer, [prediction], "CW", Small()) == pytest.approx(expected)


def test_the_best_accepted_answer_counts():
    assert score("dog", ["tree", "cat"], "CW", Small()) == pytest.approx(0.8)


def test_counts_and_yes_or_no_must_be_the_same_words():
    assert score("dog", ["cat"], "DC", Small()) == 0.0
    assert score("the dog", ["dog"], "DB", Small()) == 1.0


def test_the_smaller_direction_counts():
    def similarity(a, b):
        return {("x", "y"): 0.9, ("y", "x"): 0.3}[a, b]

    assert wups(["x"], ["y"], similarity) == pytest.approx(0.3)


def test_without_nltk_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(UserError, match=r"vlmprune\[wups\]"):
        WordNet()
