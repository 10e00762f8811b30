"""Every scorer stays in its range, gives perfect answers the maximum, and does not depend on the order of samples."""

import random

import pytest

from vlmprune.benchmarks.scoring import choices, ocrbench, open_answers, text_match, vqa, yes_no

WORDS = ["Yes", "no", "a", "the", "two", "12", "1,000", "5%", "two dogs", "isnt"]
WORDS += ["B", "(C)", "red.", "?", "é", "中", "\n", "..."]
TEXTS = ["red", "dark red", "two dogs", "12"]

SCORERS = {
    "exact": lambda text: text_match.exact_match(text, "two dogs"),
    "vqa": lambda text: vqa.vqa_accuracy(text, ["two dogs"] * 5 + ["2 dogs"] * 5),
    "evalai": lambda text: vqa.evalai_accuracy(text, ["two dogs", "12", "no"] * 3),
    "anls": lambda text: text_match.anls(text, ["two dogs", "12"]),
    "relaxed": lambda text: text_match.relaxed_match(text, "12"),
    "ocrbench": lambda text: ocrbench.contains_answer(text, TEXTS),
    "choices": lambda text: choices.choice_match(text, "B", TEXTS),
    "open": lambda text: open_answers.open_match(text, ["12", "dog"]),
    "pope": lambda text: yes_no.score_pope(text, "yes"),
    "mme": lambda text: yes_no.score_mme(text, "No"),
}


def random_answers(count):
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 4))) for _ in range(count)]


@pytest.mark.parametrize("name", SCORERS)
def test_every_answer_scores_between_0_and_1(name):
    scores = [SCORERS[name](text) for text in random_answers(300)]
    assert all(isinstance(score, float) and 0.0 <= score <= 1.0 for score in scores)
    assert len(set(scores)) > 1


@pytest.mark.parametrize("answer", ["Yes", "two dogs", "12", "1,000.5", "don't know", "U.S.A.", "black/white", "5%"])
def test_repeating_the_reference_is_perfect(answer):
    assert text_match.exact_match(answer, answer) == 1.0
    assert vqa.evalai_accuracy(answer, [answer] * 10) == 1.0
    assert text_match.anls(answer, [answer]) == text_match.relaxed_match(answer, answer) == 1.0
    assert ocrbench.contains_answer(answer, [answer]) == 1.0
    # MMMU's script drops the prediction's last period, but not the reference's.
    assert open_answers.open_match(answer, [answer.rstrip(".")]) == 1.0


def yes_no_rows(count):
    draw = random.Random(1)
    return [
        {
            "category": draw.choice(["existence", "count", "OCR"]),
            "image_id": f"{draw.randrange(20)}.png",
            "answer": draw.choice(["yes", "no"]),
            "prediction": draw.choice(["Yes", "No", "maybe"]),
            "score": draw.choice([0.0, 1.0]),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("summarise", "metric"),
    [
        (yes_no.summarise_pope, yes_no.POPE_F1),
        (yes_no.summarise_mme, yes_no.MME_PERCEPTION),
        (choices.summarise_grouped, choices.GROUPED_ACCURACY),
        (ocrbench.summarise, ocrbench.METRIC),
    ],
)
def test_the_order_of_samples_does_not_matter(summarise, metric):
    rows = yes_no_rows(200)
    metrics = summarise(rows)
    random.Random(2).shuffle(rows)
    assert summarise(rows) == pytest.approx(metrics)
    assert metric.lowest <= metrics[metric.name] <= metric.highest
