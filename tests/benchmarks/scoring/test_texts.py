"""ANLS, relaxed accuracy, OCRBench and MMMU's open questions, worked by hand."""

import pytest

from vlmprune.benchmarks.scoring.ocrbench import contains_answer, summarise
from vlmprune.benchmarks.scoring.open_answers import candidates, open_match
from vlmprune.benchmarks.scoring.text_match import anls, levenshtein, relaxed_match


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_levenshtein(a, b, distance):
    assert levenshtein(a, b) == levenshtein(b, a) == distance


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("Coca  COLA", ["coca cola"], 1.0),  # case and spaces
        ("cocacola", ["coca cola"], 1 - 1 / 9),
        ("abcd", ["abxy"], 0.5),  # exactly the threshold counts
        ("abcd", ["axyz"], 0.0),  # 0.25 is below it
        ("1999", ["2001", "1999"], 1.0),  # the nearest answer
        ("", [""], 1.0),
        ("", ["x"], 0.0),
    ],
)
def test_anls(prediction, answers, score):
    assert anls(prediction, answers) == pytest.approx(score)


def test_anls_divides_by_the_raw_length():
    assert anls("ab ", ["ac "]) == pytest.approx(2 / 3)  # one of three characters, though two are compared


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("105", "100", 1.0),  # 5 % is within
        ("105.1", "100", 0.0),
        ("95", "100", 1.0),
        ("-5", "5", 0.0),
        ("12%", "0.12", 1.0),
        ("0", "0", 1.0),
        ("0.0", "0", 0.0),  # nothing is relative to zero, so the text counts
        ("yes", "Yes", 1.0),
        ("2019 ", "2019", 1.0),
        ("1,000", "1000", 0.0),
        ("about 5", "5", 0.0),
        ("nan", "5", 0.0),
    ],
)
def test_relaxed(prediction, answer, score):
    assert relaxed_match(prediction, answer) == score


def test_ocrbench_looks_for_an_answer_in_the_text():
    assert contains_answer("The sign says STOP now", ["stop"]) == 1.0
    assert contains_answer("two\nlines", ["two lines"]) == 1.0
    assert contains_answer("halt", ["stop", "go"]) == 0.0


def test_ocrbench_reads_formulae_with_case_and_without_spaces():
    assert contains_answer("x ^ 2 + Y", ["x^2+Y"], "HME100k") == 1.0
    assert contains_answer("X^2+y", ["x^2+Y"], "HME100k") == 0.0


def test_ocrbench_is_out_of_a_thousand():
    rows = [{"category": "Doc-oriented VQA", "score": 1.0}] * 3 + [
        {"category": "Handwriting Recognition", "score": 0.0}
    ]
    assert summarise(rows) == {"ocrbench": 750.0, "text_recognition": 0.0, "document_vqa": 1.0}


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("12", "12.0", 1.0),
        ("The answer is 12.", "12", 1.0),
        ("x = 1,234", "1234", 1.0),
        ("3.14159", "3.14", 1.0),  # two decimals
        ("It is dark red", "red", 1.0),  # contained in the conclusion
        ("red is nice\nso it is blue", "red", 0.0),  # what stands before the cue is no conclusion
        ("box", "x", 0.0),  # a letter must stand at a word's edge
        ("the x axis", "x", 1.0),
        ("blue", "red", 0.0),
        ("", "5", 0.0),
    ],
)
def test_open_questions(prediction, answer, score):
    assert open_match(prediction, [answer]) == score


def test_conclusions_of_an_open_answer():
    assert candidates("so it is 5\nx = 7 cm") == [5.0, "7 cm", 5.0, 7.0]
    assert open_match("7", ["5", "7"]) == 1.0  # any accepted answer
