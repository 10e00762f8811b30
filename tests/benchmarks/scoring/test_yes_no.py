"""POPE and MME: how answers are read, and confusion matrices small enough to check by hand."""

import pytest

from vlmprune.benchmarks.scoring import yes_no


def row(category, answer, prediction, image="i"):
    return {"category": category, "answer": answer, "prediction": prediction, "image_id": image}


@pytest.mark.parametrize(
    ("prediction", "parsed"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("No, there is none", "no"),
        ("There is not", "no"),
        ("Yes. No dog", "yes"),  # the first sentence alone
        ("NO", "yes"),  # as published: only these spellings are a no
        ("nope", "yes"),
        ("", "yes"),
    ],
)
def test_pope_reads_everything_else_as_yes(prediction, parsed):
    assert yes_no.parse_pope(prediction) == parsed


def test_pope_by_hand():
    rows = [
        row("random", "yes", "yes"),  # true positive
        row("random", "yes", "no"),
        row("random", "no", "no"),
        row("random", "no", "no"),
        row("popular", "yes", "yes"),  # true positive
        row("popular", "no", "a dog"),  # false positive, and unclear
    ]
    metrics = yes_no.summarise_pope(rows)
    assert metrics["f1_random"] == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert metrics["f1_popular"] == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["precision"] == pytest.approx(2 / 3) and metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["yes_ratio"] == 0.5  # three of six predictions, whatever the answers are
    assert metrics["unclear"] == pytest.approx(1 / 6)


def test_pope_weighs_categories_equally():
    rows = [row("random", "yes", "yes")] * 9 + [row("popular", "yes", "no"), row("popular", "no", "yes")]
    assert yes_no.summarise_pope(rows)["f1"] == 0.5


def test_pope_without_a_yes_has_precision_zero():
    metrics = yes_no.summarise_pope([row("random", "yes", "no"), row("random", "no", "no")])
    assert metrics["precision"] == metrics["recall"] == metrics["f1"] == 0.0


@pytest.mark.parametrize(
    ("prediction", "parsed"),
    [("Yes", "yes"), (" no.", "no"), ("Yes, it is", "yes"), ("not", "no"), ("It is", "other"), ("y", "other")],
)
def test_mme_reads_the_first_four_characters(prediction, parsed):
    assert yes_no.parse_mme(prediction) == parsed


def test_mme_by_hand():
    rows = [
        row("count", "Yes", "yes", "a"),
        row("count", "No", "no", "a"),  # image a: both right
        row("count", "Yes", "yes", "b"),
        row("count", "No", "yes", "b"),  # image b: one right
        row("code_reasoning", "Yes", "no", "a"),  # the same image name in another subtask is another image
        row("code_reasoning", "No", "maybe", "a"),
    ]
    metrics = yes_no.summarise_mme(rows)
    assert metrics["count_accuracy"] == 0.75 and metrics["count_accuracy_plus"] == 0.5
    assert metrics["count"] == metrics["perception"] == metrics["total"] == 125.0
    assert metrics["code_reasoning"] == metrics["cognition"] == 0.0
    assert metrics["single_images"] == 0.0


def test_mme_reaches_its_maxima():
    rows = [
        row(name, answer, answer, f"{image}.png")
        for name in yes_no.PERCEPTION + yes_no.COGNITION
        for image in range(3)
        for answer in ("Yes", "No")
    ]
    metrics = yes_no.summarise_mme(rows)
    assert (metrics["perception"], metrics["cognition"], metrics["total"]) == (2000.0, 800.0, 2800.0)
    assert metrics["perception"] == yes_no.MME_PERCEPTION.highest


def test_mme_says_how_many_images_have_one_question():
    metrics = yes_no.summarise_mme([row("count", "Yes", "yes", "a"), row("count", "Yes", "no", "b")])
    assert metrics["single_images"] == 2.0 and metrics["count"] == 100.0
