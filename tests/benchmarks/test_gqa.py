"""GQA: two configs joined on the image's id, and what its data's identity is."""

from __future__ import annotations

import shutil

import pytest

from tests.benchmarks.fixtures import COUNT, gqa, picture, write_hub_folder
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
from vlmprune.config.registry import read_choice


@pytest.fixture
def folder(tmp_path):
    write_hub_folder(tmp_path / "gqa", read_choice("benchmark", "gqa"), [gqa(k) for k in range(COUNT)])
    return tmp_path / "gqa"


def test_questions_meet_their_images(folder):
    benchmark = make("gqa", path=str(folder), suffix="\nAnswer shortly.")
    samples = benchmark.load()
    assert [sample.image_id for sample in samples] == ["n0"] * 4 + ["n1"] * 4 + ["n2"] * 4
    by_id = {sample.id: sample for sample in samples}
    (image,) = benchmark.images(by_id["q5"])
    assert image.getpixel((20, 15)) == picture(2).getpixel((20, 15))
    assert benchmark.prompt(by_id["q4"]) == "Is it 4?\nAnswer shortly."
    assert by_id["q4"].category == "verify"
    assert benchmark.score("yes.", by_id["q1"]) == 1.0 and benchmark.score("Yes", by_id["q2"]) == 0.0


def test_the_identity_is_the_content_not_the_folder(folder, tmp_path):
    def identity(path):
        benchmark = make("gqa", path=str(path))
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
    benchmark = make("gqa", path=str(folder))
    (sample,) = [sample for sample in benchmark.load() if sample.id == "q3"]
    with pytest.raises(BadSample, match="gone is missing"):
        benchmark.images(sample)
