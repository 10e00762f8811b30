"""Exact match: what is forgiven, and what is not."""

import pytest

from vlmprune.benchmarks.scoring.text_match import exact_match, gqa_match


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
