"""What holds for every scorer: scores stay in range, perfect answers reach the maximum, the order does not matter."""

import random

import pytest

from vlmprune.benchmarks.scoring import anls, choices, exact, grouped, mme, ocrbench, open_answers, pope, relaxed, vqa

WORDS = [
    "Yes",
    "no",
    "a",
    "the",
    "two",
    "12",
    "1,000",
    "5%",
    "two dogs",
    "isnt",
    "B",
    "(C)",
    "red.",
    "?",
    "é",
    "中",
    "\n",
    "...",
]
TEXTS = ["red", "dark red", "two dogs", "12"]

SCORERS = {
    "exact": lambda text: exact.exact_match(text, "two dogs"),
    "vqa": lambda text: vqa.vqa_accuracy(text, ["two dogs"] * 5 + ["2 dogs"] * 5),
    "evalai": lambda text: vqa.evalai_accuracy(text, ["two dogs", "12", "no"] * 3),
    "anls": lambda text: anls.anls(text, ["two dogs", "12"]),
    "relaxed": lambda text: relaxed.relaxed_match(text, "12"),
    "ocrbench": lambda text: ocrbench.contains_answer(text, TEXTS),
    "choices": lambda text: choices.choice_match(text, "B", TEXTS),
    "open": lambda text: open_answers.open_match(text, ["12", "dog"]),
    "pope": lambda text: pope.score(text, "yes"),
    "mme": lambda text: mme.score(text, "No"),
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
    assert exact.exact_match(answer, answer) == 1.0
    assert vqa.evalai_accuracy(answer, [answer] * 10) == 1.0
    assert anls.anls(answer, [answer]) == relaxed.relaxed_match(answer, answer) == 1.0
    assert ocrbench.contains_answer(answer, [answer]) == 1.0
    # MMMU's script drops the prediction's last period, but not the reference's.
    assert open_answers.open_match(answer, [answer.rstrip(".")]) == 1.0


@pytest.mark.parametrize("index", range(4))
def test_naming_the_option_is_perfect(index):
    letter = "ABCD"[index]
    for prediction in (letter, f"({letter})", f"{letter}. {TEXTS[index]}", TEXTS[index]):
        assert choices.choice_match(prediction, letter, TEXTS) == 1.0


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


@pytest.mark.parametrize("module", [pope, mme, grouped, ocrbench])
def test_the_order_of_samples_does_not_matter(module):
    rows = yes_no_rows(200)
    metrics = module.summarise(rows)
    random.Random(2).shuffle(rows)
    assert module.summarise(rows) == pytest.approx(metrics)
    assert module.METRIC.lowest <= metrics[module.METRIC.name] <= module.METRIC.highest


@pytest.mark.parametrize("module", [pope, mme])
def test_perfect_yes_and_no_reach_the_maximum(module):
    rows = [row | {"prediction": row["answer"]} for row in yes_no_rows(200)]
    metrics = module.summarise(rows)
    if module is pope:
        assert metrics["f1"] == metrics["accuracy"] == metrics["precision"] == metrics["recall"] == 1.0
    else:
        assert all(metrics[name] == 200.0 for name in ("existence", "count", "OCR"))
