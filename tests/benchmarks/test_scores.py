"""Benchmarks ask as published, and give perfect answers full marks."""

from __future__ import annotations

import random

import pytest

from tests.benchmarks.fixtures import COUNT, ROWS
from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample
from vlmprune.config.subset import Subset
from vlmprune.evaluation.scores import summarise_scores

pytestmark = pytest.mark.usefixtures("words")

JUDGED = {"mmvet", "llava_wild", "activitynet", "tgif", "msvd", "msrvtt"}
SETS = {"coco_caption", "nocaps", "flickr30k"}  # CIDEr: no answer has a score of its own


def predictions(benchmark, answer):
    """Prediction lines of all samples, `answer` giving the model's words."""
    rows = []
    for sample in benchmark.load():
        text = answer(sample)
        row = {key: getattr(sample, key) for key in ("id", "image_id", "category", "question", "answer", "extra")}
        rows.append(row | {"prediction": text, "score": benchmark.score(text, sample)})
    return rows


@pytest.mark.parametrize("name", sorted(set(ROWS) - JUDGED - SETS))
def test_perfect_answers_give_the_maximum_and_empty_ones_less(name, overrides):
    benchmark = build(overrides(name))
    perfect = predictions(benchmark, lambda sample: sample.answer)
    found = summarise_scores(perfect, benchmark)
    expected = 0.1 if name == "mme" else 1.0  # the fixture has one of MME's ten subtasks of perception
    assert found["score"] == pytest.approx(expected)
    assert found["interval95"][0] <= expected <= found["interval95"][1]
    if benchmark.units(perfect) is not None:
        units, images = benchmark.units(perfect)
        assert set(units) == {1} and found["interval95"] == pytest.approx([0.025 ** (1 / len(set(images))), 1])
    assert all(entry["score"] == 1 for entry in found["by_category"].values())
    shuffled = random.Random(0).sample(perfect, len(perfect))
    assert summarise_scores(shuffled, benchmark)["metrics"] == pytest.approx(found["metrics"])
    assert summarise_scores(predictions(benchmark, lambda _: ""), benchmark)["score"] < expected


@pytest.mark.parametrize("name", sorted(JUDGED))
def test_judged_benchmarks_have_no_score_of_their_own(name, overrides):
    benchmark = build(overrides(name))
    rows = predictions(benchmark, lambda sample: sample.answer)
    found = summarise_scores(rows, benchmark)
    assert found["score"] is None and found["interval95"] is None and found["metrics"] == {}
    assert benchmark.protocol is not None and benchmark.protocol.messages(rows[0])


PROMPTS = {
    "textvqa_ocr": "What does the sign say?\nReference OCR token: STOP, é,\n"
    "Answer the question using a single word or phrase.",
    "scienceqa": "Context: Read the map.\nWhich is north?\nA. Maine\nB. Utah\n"
    "Answer with the option's letter from the given choices directly.",
    "mme": "Is it Python code?\nAnswer the question using a single word or phrase.",
    "mmbench": "Which one?\nA. yes\nB. no\nAnswer with the option's letter from the given choices directly.",
    "mmbench_cn": "Which one?\nA. yes\nB. no\n请直接回答选项字母。",
    "mmmu": "Compare <image 2> with <image 1>.\nA. <image 1>\nB. it's\nC. None of these\n\n"
    "Answer with the option's letter from the given choices directly.",
    "mvbench": "Question:What moves?\nOption:\n(A) A\n(B) disc\n(C) a disc\nOnly give the best option.\n",
    "videomme": "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\nWhat moves?\nA. A disc.\n"
    "B. The sun.\nC. It stands.\n"
    "D. U.S. flags.\n\nAnswer with the option's letter from the given choices directly.",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name, overrides):
    benchmark = build(overrides(name))
    assert PROMPTS[name] in [benchmark.prompt(sample) for sample in benchmark.load()]


def test_seed_leaves_out_videos(overrides):
    assert len(build(overrides("seed")).load()) == 10


def test_mvbench_joins_its_tasks_and_weighs_them_alike(overrides):
    samples = build(overrides("mvbench")).load()
    assert len({sample.category for sample in samples}) == 20 and len(samples) == 20 * COUNT
    one_task = build([*overrides("mvbench"), "benchmark.config=moving_count"]).load()
    assert len(one_task) == COUNT


def test_rotations_are_asked_together(overrides):
    samples = build(overrides("mmbench")).load()
    questions = [sample.extra["index"] % 1_000_000 for sample in Subset(limit=5).choose(samples)]
    assert len(questions) == 4 and sorted(questions)[::2] == sorted(questions)[1::2]
    pairs = [sample.image_id for sample in Subset(limit=6).choose(build(overrides("mme")).load())]
    assert len(pairs) == 6 and len(set(pairs)) == 3


def test_circular_accuracy_without_an_index_is_a_bad_sample(overrides):
    benchmark = build([*overrides("seed"), "+benchmark.average=circular"])
    with pytest.raises(BadSample, match="its index None is no number"):
        benchmark.images(benchmark.load()[0])


def test_circular_accuracy_needs_all_rotations(overrides):
    benchmark = build(overrides("mmbench"))
    rows = predictions(benchmark, lambda sample: "A")  # right in one rotation of two
    assert summarise_scores(rows, benchmark)["score"] == 0.0
