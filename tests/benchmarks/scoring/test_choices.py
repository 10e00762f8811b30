"""Multiple choice: one case and more for every rule of letter extraction, CircularEval and category means."""

import pytest

from vlmprune.benchmarks.scoring import choices
from vlmprune.benchmarks.scoring.choices import choice_match, letter

ANIMALS = ["a dog", "a cat", "a black cat", "At night"]


@pytest.mark.parametrize(
    ("prediction", "named"),
    [
        # 1. the letter alone
        ("B", "B"),
        (" b.", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("E", None),  # there are four options
        # 2. at the beginning
        ("B. a dog", "B"),  # the letter wins over the text
        ("(B) a cat", "B"),
        ("b) a cat", "B"),
        ("C: a black cat", "C"),
        ("A, because", "A"),
        ("C\nIt is a black cat.", "C"),
        ("A.M. is before noon", None),
        ("(A) and (B)", None),
        # 3. said
        ("The answer is B.", "B"),
        ("B is wrong, so the answer is (C)", "C"),
        ("Answer: D", "D"),
        ("I would choose option A here", "A"),
        ("答案是C", "C"),
        ("the answer is B. No, the answer is C", "C"),  # the last
        ("the answer is bright", None),
        # 4. one letter only
        ("I am sure that (D) fits", "D"),
        ("it must be B here", "B"),
        ("A lion", None),  # an article
        ("A or C", None),
        ("I", None),
        # 5. the option's text
        ("a cat", "B"),
        ("A cat.", "B"),
        ("It is a black cat, I think", "C"),  # "a cat" is not there; "a black cat" is
        ("a dog and a cat", None),
        ("at night!", "D"),
        ("", None),
        ("a catfish", None),
    ],
)
def test_rules(prediction, named):
    assert letter(prediction, ANIMALS) == named


def test_of_options_that_contain_each_other_the_longest():
    assert letter("It is dark red", ["red", "dark red", "blue"]) == "B"
    assert letter("It is red", ["red", "dark red", "blue"]) == "A"


def test_unknown_texts_leave_the_letter_rules():
    assert letter("B", ["", "", ""]) == "B" and letter("a cat", ["", "", ""]) is None


def test_match():
    assert choice_match("The answer is B", "b", ANIMALS) == 1.0
    assert choice_match("no idea", "A", ANIMALS) == 0.0


def test_circular_counts_a_question_where_all_rotations_are_right():
    def row(index, score):
        return {"extra": {"index": index}, "score": score}

    rows = [row(1, 1.0), row(1_000_001, 1.0), row(2, 1.0), row(1_000_002, 0.0), row(2_000_002, 1.0)]
    assert choices.summarise_circular(rows) == {"accuracy": 0.5, "vanilla_accuracy": 0.8, "questions": 2.0}


def test_categories_weigh_the_same():
    rows = [{"category": "a", "score": 1.0}] * 9 + [{"category": "b", "score": 0.0}]
    assert choices.summarise_grouped(rows) == {"accuracy": 0.5, "question_accuracy": 0.9}
