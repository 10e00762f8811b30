"""Options keep the letters of the data; a stored answer names one, by letter, index or text as the YAML says."""

from __future__ import annotations

import json
import math

import pytest

from tests.benchmarks.fixtures import picture
from tests.benchmarks.loading import build, make
from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.choices import MultipleChoice, read_options
from vlmprune.config.registry import read_choice

ROW = {"image": "a.png", "question": "Which?"}


def load(tmp_path, rows, **settings):
    """Row number -> the sample of a folder's row, or why it is broken."""
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(ROW | row) + "\n" for row in rows))
    benchmark, found = make("folder", path=str(tmp_path), **settings), {}
    for sample in benchmark.load():
        try:
            benchmark.images(sample)
            found[int(sample.id)] = sample
        except BadSample as error:
            found[int(sample.id)] = str(error)
    return benchmark, found


@pytest.mark.parametrize("gap", [None, math.nan, "", " "])
@pytest.mark.parametrize(("answers", "answer_is"), [("ABC", "letter_or_text"), ("ABC", "letter"), ((0, 1, 2), "index")])
def test_a_null_option_leaves_the_letters_as_they_are(gap, answers, answer_is, tmp_path):
    rows = [{"choices": ["red", gap, "blue"], "answer": answer} for answer in answers]
    benchmark, found = load(tmp_path, rows, answer_is=answer_is)
    assert [found[0].answer, found[2].answer] == ["A", "C"]
    assert benchmark.prompt(found[2]).startswith("Which?\nA. red\nC. blue")
    assert benchmark.score("C", found[2]) == benchmark.score("blue", found[2]) == 1
    assert found[1].startswith(f"its answer '{answers[1]}' is the") and "none of its 2 choices" in found[1]


def test_answers_of_a_folder_as_people_write_them(tmp_path):
    rows = [{"answer": answer} for answer in (["", "red"], ["red", None], math.nan, [[]], True, 3.0, "None")]
    rows += [{"choices": [True, False], "answer": False}, {"choices": ["x", "y"], "answer": ["y"]}]
    benchmark, found = load(tmp_path, rows)
    assert found[0].answer == found[1].answer == "red" and found[0].extra["answers"] == ["red"]
    assert benchmark.score("", found[0]) == 0 and benchmark.score("red", found[0]) == 1
    assert (
        "is absent" in found[2] and "is absent" in found[3] and "its answer True is or holds true or false" in found[4]
    )
    assert (found[5].answer, found[6].answer, found[7].answer, found[8].answer) == ("3", "None", "B", "B")


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (["A. x", None, "C. z"], ["x", "", "z"]),
        (["B. x", "C. z"], ["", "x", "z"]),
        ("['a', None, 'b']", ["a", "", "b"]),
        ('["a", null, "b"]', ["a", "", "b"]),
        ({"A": "x", "c": "z"}, ["x", "", "z"]),
        ([1.0, 2.5, False], ["1", "2.5", "False"]),
        (["x", None, ""], ["x"]),
        (["A. x", "y"], ["A. x", "y"]),
        (["A. mellifera", "A. thaliana"], ["A. mellifera", "A. thaliana"]),  # no letters, but a part of the text
        (None, []),
        ("", []),
    ],
)
def test_options_as_data_store_them(value, options):
    assert read_options(value, "letter") == options


def test_letters_of_options_that_are_named_by_index_belong_to_the_text():
    assert read_options(["C. elegans", "D. rerio"], "index") == ["C. elegans", "D. rerio"]


@pytest.mark.parametrize(
    "value", ["5", "'abc'", "red; blue", 5, ["x"] * 27, [["x"], "y"], {"text": ["x"], "label": ["A"]}]
)
def test_what_are_no_options(value):
    with pytest.raises(BadSample, match=r"its choice|it has 27 choices"):
        read_options(value, "letter")


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
