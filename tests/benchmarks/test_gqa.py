"""GQA: two configs joined on the image's id, and what its data's identity is."""

from __future__ import annotations

import shutil

import pytest

from tests.benchmarks.fixtures import COUNT, gqa, picture, write_hub_folder
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.short_answers import Gqa
from vlmprune.config.registry import DESCRIPTION, read_choice
from vlmprune.errors import UserError


@pytest.fixture
def folder(tmp_path):
    write_hub_folder(tmp_path / "gqa", read_choice("benchmark", "gqa"), [gqa(k) for k in range(COUNT)])
    return tmp_path / "gqa"


def make(path, **settings):
    config = {key: value for key, value in read_choice("benchmark", "gqa").items() if key not in DESCRIPTION}
    return Gqa(**(config | {"path": str(path)} | settings))


def test_questions_meet_their_images(folder):
    benchmark = make(folder, suffix="\nAnswer shortly.")
    samples = benchmark.load()
    assert [sample.image_id for sample in samples] == ["n0"] * 4 + ["n1"] * 4 + ["n2"] * 4
    by_id = {sample.id: sample for sample in samples}
    (image,) = benchmark.images(by_id["q5"])
    assert image.getpixel((20, 15)) == picture(2).getpixel((20, 15))
    assert benchmark.prompt(by_id["q4"]) == "Is it 4?\nAnswer shortly."
    assert by_id["q4"].category == "verify"
    assert benchmark.score("yes.", by_id["q1"]) == 1.0 and benchmark.score("Yes", by_id["q2"]) == 0.0


def test_no_network_is_one_clear_line():
    with pytest.raises(UserError, match=r"lmms-lab/GQA.*benchmark\.path="):
        make("lmms-lab-encoder/GQA").load()


def test_the_identity_is_the_content_not_the_folder(folder, tmp_path):
    def identity(path):
        benchmark = make(path)
        benchmark.load()
        return benchmark.identity()

    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert identity(copy) == identity(folder)
    rows = [gqa(k) | {"question": "What?"} for k in range(COUNT)]
    write_hub_folder(copy, read_choice("benchmark", "gqa"), rows)
    assert identity(copy) != identity(folder)


def test_a_question_whose_image_is_not_there_is_bad(folder):
    rows = [gqa(k) | ({"imageId": "gone"} if k == 3 else {}) for k in range(COUNT)]
    write_hub_folder(folder, read_choice("benchmark", "gqa"), rows)
    benchmark = make(folder)
    (sample,) = [sample for sample in benchmark.load() if sample.id == "q3"]
    with pytest.raises(BadSample, match="gone is missing"):
        benchmark.images(sample)
