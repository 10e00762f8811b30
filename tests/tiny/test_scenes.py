"""The generator: repeatable, unambiguous, with disjoint splits; and the frozen test split."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from pyarrow.parquet import read_table

from scripts.tiny_model.build_test_split import build_test_split
from scripts.tiny_model.corpus import label_arrays
from scripts.tiny_model.draw import draw_scene
from scripts.tiny_model.questions import CATEGORIES, ask
from scripts.tiny_model.scenes import DIGIT_SHARES, IMAGE_SIZE, SPLITS, digit_bank, sample_scene, scene_rng
from vlmprune.tiny.testset import HASH_FILE, TEST_FILE, file_sha256, load_scenes, load_test_split

NUMBERS = ["zero", "one", "two", "three", "four"]


def make(split: str, index: int):
    rng = scene_rng(7, split, index)
    scene = sample_scene(rng, split, index)
    return scene, draw_scene(scene, rng), ask(scene, rng)


def picture_hash(split: str, index: int) -> str:
    return hashlib.sha256(make(split, index)[1].tobytes()).hexdigest()


def only(objects: list[dict], key: str, value: str) -> dict:
    found = [o for o in objects if o[key] == value]
    assert len(found) == 1, f"{value} is ambiguous"
    return found[0]


def middle(item: dict) -> np.ndarray:
    return (np.array(item["box"][:2]) + np.array(item["box"][2:])) / 2


def direction(offset: np.ndarray, words: tuple[str, str, str, str], text: str) -> str:
    """The word of the asked axis (left, right, above, below) that an offset in pixels points to."""
    axis = 0 if words[0] in text.split() else 1
    assert abs(offset[axis]) >= 14, "too close to call"
    return words[2 * axis + int(offset[axis] > 0)]


def derive(objects: list[dict], question: str) -> str:
    """The answer from the object table and the wording alone, with none of the generator's code."""
    if match := re.fullmatch(r"What color is the (\w+)\?", question):
        return only(objects, "kind", match[1])["color"]
    if match := re.fullmatch(r"What shape is (\w+)\?", question):
        return only(objects, "color", match[1])["kind"]
    if match := re.fullmatch(r"Is the (\w+) (?:left or right of|above or below) the (\w+)\?", question):
        offset = middle(only(objects, "kind", match[1])) - middle(only(objects, "kind", match[2]))
        return direction(offset, ("left", "right", "above", "below"), question)
    if match := re.fullmatch(r"Is the (\w+) on the \w+ or \w+\?", question):
        offset = middle(only(objects, "kind", match[1])) - IMAGE_SIZE / 2
        return direction(offset, ("left", "right", "top", "bottom"), question)
    if match := re.fullmatch(r"Is there a (\w+) (\w+)\?", question):
        return "yes" if any((o["color"], o["kind"]) == match.groups() for o in objects) else "no"
    if match := re.fullmatch(r"How many (\w+?)(?:es|s) are there\?", question):
        return NUMBERS[sum(o["kind"] in (match[1], match[1] + "e") for o in objects)]
    return only(objects, "kind", "card" if "digit" in question else "sign")["value"]


def test_a_scene_is_repeatable() -> None:
    first, again = make("train", 11), make("train", 11)
    assert first[0] == again[0] and first[2] == again[2]
    assert first[1].tobytes() == again[1].tobytes()


@pytest.mark.parametrize("split", SPLITS)
def test_answers_follow_from_the_objects(split: str) -> None:
    seen = Counter()
    for index in range(80):
        scene, _, questions = make(split, index)
        objects = [asdict(o) for o in scene.objects]
        for question in questions:
            assert derive(objects, question.text) == question.answer
            seen[question.category] += 1
    assert set(seen) == set(CATEGORIES)


def test_objects_do_not_overlap_and_stay_inside() -> None:
    for index in range(80):
        taken = np.zeros((IMAGE_SIZE, IMAGE_SIZE), int)
        scene = make("train", index)[0]
        for item in scene.objects:
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= IMAGE_SIZE and 0 <= y0 < y1 <= IMAGE_SIZE
            taken[y0:y1, x0:x1] += 1
        assert taken.max() == 1


def test_every_object_owns_patches() -> None:
    scenes = [make("train", index)[0] for index in range(40)]
    owner, table, _ = label_arrays(scenes)
    for row, scene in enumerate(scenes):
        assert set(owner[row]) - {-1} == set(range(len(scene.objects)))
        assert (table[row, :, 0] >= 0).sum() == len(scene.objects)


def test_splits_share_no_digit_and_no_picture() -> None:
    order = digit_bank()[2]
    digits = {split: set(order[slice(*share)]) for split, share in DIGIT_SHARES.items()}
    pictures = {split: {picture_hash(split, i) for i in range(60)} for split in SPLITS}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not digits[a] & digits[b]
        assert not pictures[a] & pictures[b]
    for split in SPLITS:
        used = {make(split, i)[0].digit_instance for i in range(60)} - {-1}
        assert used <= digits[split]


def test_frozen_split_is_the_published_one(tmp_path) -> None:
    assert file_sha256(TEST_FILE) == HASH_FILE.read_text().split()[0]
    assert TEST_FILE.stat().st_size < 4_000_000
    other = tmp_path / "test.parquet"
    other.write_bytes(TEST_FILE.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the frozen test split"):
        load_test_split(other)


@pytest.mark.slow
def test_the_generator_makes_the_frozen_split(tmp_path) -> None:
    """Pixels included: constraints.txt pins the Pillow that drew them."""
    assert read_table(build_test_split(tmp_path)).equals(read_table(TEST_FILE))


def test_frozen_answers_follow_from_the_objects() -> None:
    for scene in load_scenes().remove_columns("image"):
        objects = json.loads(scene["objects"])
        for asked in scene["questions"]:
            assert derive(objects, asked["question"]) == asked["answer"]


def test_frozen_split_has_1000_questions_balanced_where_promised() -> None:
    split = load_test_split()
    assert split.column_names == ["question_id", "image_id", "image", "question", "answer", "category"]
    assert len(split) == len(set(split["question_id"])) == 1000
    ids = split["image_id"]
    changes = sum(a != b for a, b in pairwise(ids))
    assert changes == len(set(ids)) - 1, "rows of one image are adjacent"
    assert split[0]["image"].size == (IMAGE_SIZE, IMAGE_SIZE)
    for kind in ("random", "popular", "adversarial"):
        pairs = zip(split["category"], split["answer"], strict=True)
        answers = Counter(answer for category, answer in pairs if category == f"exist_{kind}")
        assert abs(answers["yes"] - answers["no"]) <= 1
