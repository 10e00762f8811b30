"""Exact match, ANLS, relaxed accuracy, OCRBench and MMMU's open questions, worked by hand."""

import pytest

from vlmprune.benchmarks.scoring.ocrbench import contains_answer, summarise
from vlmprune.benchmarks.scoring.open_answers import candidates, open_match
from vlmprune.benchmarks.scoring.text_match import anls, exact_match, gqa_match, relaxed_match


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [("Red", "red", 1.0), (" red. ", "red", 1.0), ("dark red", "red", 0.0), ("", "no", 0.0), ("No!", "no", 1.0)],
)
def test_exact_match(prediction, answer, score):
    assert exact_match(prediction, answer) == gqa_match(prediction, answer) == score


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("3.5", "35"),
        (".5", "5"),
        ("-3", "3"),
        ("−3", "3"),  # U+2212
        ("-$3", "$3"),
        ("(-3)", "(3)"),
        ("-.5", ".5"),
        ("1/2", "12"),
        ("10:30", "1030"),
        ("3,5", "35"),  # a decimal comma
        ("3,5", "3.5"),  # or a list: not the same text
        ("1,00", "100"),
        ("1.000", "1000"),
        ("2-3", "23"),
        ("2+3", "23"),
        ("5'10\"", "510"),
        ("<5", ">5"),
        ("192.168.1.1", "19216811"),
        ("it is -3 degrees", "it is 3 degrees"),
        ("10:30 a.m.", "1030 am"),
        ("3 5", "35"),
    ],
)
def test_numbers_keep_their_sign_point_and_colon(prediction, answer):
    assert exact_match(prediction, answer) == exact_match(answer, prediction) == 0.0
    assert exact_match(prediction, f" {prediction}. ") == 1.0


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("1,000", "1000"),
        ("12,345,678.5", "12345678.5"),
        ("$5", "5"),
        ("5€", "5"),
        ("50%", "50"),
        ("30°", "30"),
        ("+3", "3"),
        ("3.", "3"),
        ("- 3", "3"),  # an item of a list
        ("−3", "-3"),
        ("1⁄2", "1/2"),
        ("e.g.", "eg"),
        ("U.S.A.", "usa"),
        ("t-shirt", "tshirt"),
        ("B-2", "b2"),
        ("No.5", "no5"),
        ("“stop”", '"stop"'),
        ("１０：３０", "10:30"),  # full width
        ("两只狗。", "两只狗"),
    ],
)
def test_units_separators_and_punctuation_are_forgiven(prediction, answer):
    assert exact_match(prediction, answer) == exact_match(answer, prediction) == 1.0


def test_gqa_drops_all_punctuation_of_ascii_as_before():
    assert gqa_match("3.5", "35") == gqa_match("-3", "3") == gqa_match("t-shirt", "tshirt") == 1.0


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("Coca  COLA", ["coca cola"], 1.0),  # case and spaces
        ("cocacola", ["coca cola"], 1 - 1 / 9),
        ("saturday", ["sundays"], 0.5),  # four edits: letters removed, replaced and added
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
