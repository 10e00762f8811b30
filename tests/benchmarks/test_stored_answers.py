"""A dataset's answer names an option by letter, index or text, as the YAML says; and answers without options."""

from __future__ import annotations

import pytest

from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.config.registry import read_choice


def answer(answer_is, choices, value):
    columns = {"choices": "choices", "answer": "answer"}
    benchmark = MultipleChoice(max_new_tokens=1, columns=columns, answer_is=answer_is)
    return benchmark.answer({"choices": choices, "answer": value})


@pytest.mark.parametrize(
    ("name", "choices", "value", "letter"),
    [
        ("ai2d", ["1", "2", "3", "4"], "2", "C"),  # an index, not the text
        ("scienceqa", ["b", "a", "c"], 0, "A"),
        ("nextqa_mc", ["0", "1", "2", "3", "4"], 3, "D"),
        ("egoschema", ["A. C does E", "B. C does D"], "1", "B"),
        ("mvbench", ["v", "b", "a"], "a", "C"),  # the text, not the letter
        ("mvbench", ["3", "0", "1"], "0", "B"),
        ("mvbench", ["same", "same"], "same", "A"),
        ("seed", ["B", "A", "C", "D"], "B", "B"),  # the letter, not the text
        ("videomme", ["A. 1", "B. 0"], "B", "B"),
        ("folder", ["it falls", "it flies"], "it flies", "B"),
        ("folder", ["it falls", "it flies"], "a", "A"),
        ("folder", ["a", "x"], "a", "A"),  # both readings are the same option
    ],
)
def test_the_yaml_says_how_it_is_stored(name, choices, value, letter):
    assert answer(read_choice("benchmark", name)["answer_is"], choices, value) == letter


@pytest.mark.parametrize(
    ("answer_is", "value", "said"),
    [
        ("letter", "2", "'2' is the letter of none of its 3 choices .benchmark.answer_is=letter"),
        ("letter", "D", "the letter of none"),
        ("index", "3", "the index of none"),
        ("index", "-1", "the index of none"),
        ("text", "B", "the text of none"),
        ("letter_or_text", "a", "'a' is the letter or text of several"),
        ("letter_or_text", "c c", "the letter or text of none"),
    ],
)
def test_an_answer_that_names_no_one_option_is_bad(answer_is, value, said):
    with pytest.raises(BadSample, match=said):
        answer(answer_is, ["v", "b", "a"], value)


def test_a_user_can_say_which_is_meant():
    assert build(["benchmark=folder", "benchmark.answer_is=text"]).answer_is == "text"


@pytest.mark.parametrize(
    ("reference", "prediction", "score"),
    [
        ("3", "3", 1.0),
        ("3", "3.", 1.0),
        ("3", "Three.", 1.0),
        ("3", "13", 0.0),
        ("0", "zero", 1.0),
        ("Left", "left.", 1.0),
        ("B", "B. Right", 1.0),
        ("B", "A", 0.0),
        ("é", "é", 1.0),
    ],
)
def test_without_options_there_are_letters_numbers_and_words(reference, prediction, score):
    """As in RealWorldQA."""
    sample = Sample("1", "1", "How many cars?", reference, "all", extra={"choices": []})
    assert MultipleChoice(max_new_tokens=1).score(prediction, sample) == score
