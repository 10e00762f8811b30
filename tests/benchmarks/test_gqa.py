"""GQA from a local dataset of the hub's layout: two configs joined on the image's id."""

from __future__ import annotations

import pytest
from PIL import Image

from vlmprune.benchmarks.base import subset
from vlmprune.benchmarks.gqa import Gqa
from vlmprune.errors import UserError

README = """---
configs:
- config_name: testdev_balanced_instructions
  data_files: [{split: testdev, path: instructions.parquet}]
- config_name: testdev_balanced_images
  data_files: [{split: testdev, path: images.parquet}]
---
"""


@pytest.fixture
def folder(tmp_path):
    from datasets import Dataset

    rows = [
        {
            "id": f"q{number}",
            "imageId": f"n{number % 3}",
            "question": f"Is it {number}?",
            "answer": "Yes" if number % 2 else "no",
            "types": {"structural": "verify", "semantic": "obj", "detailed": "exist"},
        }
        for number in range(9)
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / "instructions.parquet")
    images = [{"id": f"n{k}", "image": Image.new("RGB", (8, 8), (k * 40, 0, 0))} for k in range(3)]
    Dataset.from_list(images).to_parquet(tmp_path / "images.parquet")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_questions_meet_their_images(folder):
    gqa = Gqa(path=str(folder), max_new_tokens=16, suffix="\nAnswer shortly.")
    samples = gqa.load()
    assert len(samples) == 9
    assert [sample.image_id for sample in samples] == ["n0"] * 3 + ["n1"] * 3 + ["n2"] * 3
    assert gqa.image("n2").getpixel((0, 0)) == (80, 0, 0)
    by_id = {sample.id: sample for sample in samples}
    assert gqa.prompt(by_id["q4"]) == "Is it 4?\nAnswer shortly."
    assert gqa.score("yes.", by_id["q1"]) == 1.0 and gqa.score("Yes", by_id["q2"]) == 0.0
    assert gqa.identity()


def test_no_network_is_one_clear_line():
    with pytest.raises(UserError, match=r"benchmark\.path="):
        Gqa(path="lmms-lab-encoder/GQA", fallback="lmms-lab/GQA", max_new_tokens=16).load()


def test_a_subset_is_stable_and_in_order(folder):
    samples = Gqa(path=str(folder), max_new_tokens=16).load()
    chosen = subset(samples, 4)
    assert chosen == subset(samples, 4) and len(chosen) == 4
    assert [samples.index(sample) for sample in chosen] == sorted(samples.index(sample) for sample in chosen)
    assert subset(samples, None) == subset(samples, 9) == samples


def test_the_identity_is_the_content_not_the_folder(folder, tmp_path_factory):
    import shutil

    from datasets import Dataset

    def identity(path):
        gqa = Gqa(path=str(path), max_new_tokens=16)
        gqa.load()
        return gqa.identity()

    copy = tmp_path_factory.mktemp("elsewhere") / "gqa"
    shutil.copytree(folder, copy)
    assert identity(copy) == identity(folder)
    Dataset.from_list([{"id": f"n{k}", "image": Image.new("RGB", (8, 8), (9, 9, 9))} for k in range(3)]).to_parquet(
        copy / "images.parquet"
    )
    assert identity(copy) != identity(folder)
