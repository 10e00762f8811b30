"""Options keep the letters that the data give them, and a stored answer names one of them or none."""

from __future__ import annotations

import json
import math

import pytest

from tests.benchmarks.fixtures import picture
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.choices import named_options, read_options

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
        (None, []),
        ("", []),
    ],
)
def test_options_as_data_store_them(value, options):
    assert read_options(value, "letter") == options


def test_letters_that_are_no_places_belong_to_the_text():
    assert read_options(["C. elegans", "D. rerio"], "index") == ["C. elegans", "D. rerio"]
    assert read_options(["A. mellifera", "A. thaliana"], "letter") == ["A. mellifera", "A. thaliana"]


@pytest.mark.parametrize(
    "value", ["5", "'abc'", "red; blue", 5, ["x"] * 27, [["x"], "y"], {"text": ["x"], "label": ["A"]}]
)
def test_what_are_no_options(value):
    with pytest.raises(BadSample, match=r"its choice|it has 27 choices"):
        read_options(value, "letter")


def test_an_answer_names_options_that_are_there():
    options = ["red", "", "blue", "blue"]
    assert named_options("b", options, "letter") == named_options("1", options, "index") == set()
    assert named_options("", options, "letter_or_text") == named_options("9", options, "index") == set()
    assert named_options("blue", options, "text") == {"C"} and named_options("c", options, "letter") == {"C"}
