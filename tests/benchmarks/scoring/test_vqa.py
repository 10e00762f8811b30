"""VQA accuracy: every step of the two official normalisations, and the leave-one-out average, worked by hand."""

import pytest

from vlmprune.benchmarks.scoring.vqa import CONTRACTIONS, evalai_accuracy, evalai_answer, leave_one_out, vqa_accuracy
from vlmprune.benchmarks.short_answers import Vqa


@pytest.mark.parametrize(
    ("agreeing", "accuracy"),
    # With k of ten agreeing: k annotators see k - 1 others, ten - k see k.
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_the_average_leaves_every_annotator_out_once(agreeing, accuracy):
    answers = ["red"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
    assert leave_one_out("red", answers) == pytest.approx(accuracy)
    assert vqa_accuracy("red", answers) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Dog", "dog"),  # case, article
        ("two", "2"),
        ("none", "0"),
        ("ten men", "10 men"),
        ("eleven", "eleven"),  # the table ends at ten
        ("dont", "don't"),
        ("youd've", "you'd've"),
        ("somebody'd", "somebodyd"),  # as published
        ("red.", "red"),
        ("3.5", "3.5"),  # a period before a digit stays
        ("5.", "5"),
        ("black/white", "black white"),  # inside a word a mark becomes a space
        ("black / white", "black white"),  # beside a space it is removed
        ("yes!", "yes"),
        ("1,000", "1000"),
        ("what?", "what"),
        ("the dog's tail", "dog 's tail"),  # EvalAI takes possessives apart
        ("it\nis\ta", "it is"),
        ("a the an", ""),
    ],
)
def test_evalai_normalisation(text, normalised):
    assert evalai_answer(text) == normalised


OTHERS = ["elsewhere"]  # one annotator who differs, so that VQA's script normalises


def test_a_comma_in_a_number_joins_all_marks_of_the_answer():
    """With a comma between digits no mark becomes a space; EvalAI drops commas before that."""
    assert vqa_accuracy("1,000/year", ["1000year"] * 9 + OTHERS) == 1.0
    assert vqa_accuracy("1000/year", ["1000 year"] * 9 + OTHERS) == 1.0
    assert evalai_answer("1,000/year") == "1000 year"


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [("2", "two"), ("Two.", "two"), ("dogs", "the dogs"), ("black/white", "black / white"), ("dont", "don't")],
)
def test_vqa_normalises_the_annotators_answers_too_where_they_differ(prediction, answer):
    """vqaEval.py since commit a013f00 of 2021: processDigitArticle for the annotators' answers."""
    assert vqa_accuracy(prediction, [answer] * 9 + ["three"]) == 1.0
    assert vqa_accuracy(prediction, [answer] * 10) == 0.0  # all the same: compared as they are


def test_vqa_compares_unanimous_answers_as_they_are():
    for answer in ("two", "black/white", "the dog", "Yes"):
        assert vqa_accuracy(f" {answer}\n", [answer] * 9 + [f"{answer} "]) == 1.0  # white space apart
    assert vqa_accuracy("Yes", ["yes"] * 10) == 0.0
    assert evalai_accuracy("black/white", ["black/white"] * 10) == evalai_accuracy("2", ["two"] * 10) == 1.0


def test_the_benchmark_gives_the_script_what_llava_submits():
    vqav2 = Vqa(path="", config=None, split="", revision=None, columns={}, max_new_tokens=1)
    assert vqav2.accuracy("Yes.", ["yes"] * 10) == vqav2.accuracy("2", ["two"] * 9 + ["three"]) == 1.0


def test_only_the_first_32_periods_are_removed():
    """The scripts pass a flag, 32, as the count of replacements."""
    assert evalai_answer("." * 40) == "." * 8


def test_contractions_have_exactly_one_apostrophe_missing():
    assert CONTRACTIONS["couldnt've"] == CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert "couldntve" not in CONTRACTIONS
    assert len(CONTRACTIONS) == 114
