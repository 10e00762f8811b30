"""The authors' own files, which published figures are of, through `benchmark.path`."""

from __future__ import annotations

import base64
import json

import pytest

from tests.benchmarks.fixtures import encoded, picture
from tests.benchmarks.loading import build, make
from vlmprune.benchmarks.base import BadSample
from vlmprune.config.registry import find_choices, read_choice
from vlmprune.errors import UserError

CATEGORIES = ("random", "popular", "adversarial")
HEADER = ["index", "question", "hint", *"ABCD", "answer", "category", "image", "source", "l2-category", "comment"]


def mmbench(tmp_path, *rows):
    lines = ["\t".join(HEADER), *("\t".join(row.get(name, "") for name in HEADER) for row in rows)]
    (tmp_path / "mmbench_dev_20230712.tsv").write_text("\n".join(lines) + "\n")
    benchmark = make("mmbench", path=f"{tmp_path}/mmbench_dev_20230712.tsv")
    return benchmark, benchmark.load()


CELL = base64.b64encode(encoded(picture(2), "JPEG")).decode()
ROW = {"index": "241", "question": "Which?", "A": "yes", "B": "no", "answer": "B", "category": "x", "image": CELL}


def test_llavas_mmbench(tmp_path):
    """A header as pandas writes it, base64, no text for a missing option; quoted fields hold line ends."""
    quoted = ROW | {"index": "1000241", "question": '"a ""b""\nc"', "C": "nan", "D": "None", "hint": "nan"}
    benchmark, (sample, other) = mmbench(tmp_path, ROW, quoted)
    assert benchmark.prompt(sample).startswith("Which?\nA. yes\nB. no\nAnswer with")
    assert sample.extra == {"choices": ["yes", "no"], "index": "241"} and sample.group == other.group == "241"
    assert benchmark.prompt(other).startswith('a "b"\nc\nA. yes\nB. no\nAnswer with')
    assert benchmark.images(sample)[0].size == (40, 30)
    rows = [vars(each) | {"prediction": "B", "score": 1.0} for each in (sample, other)]
    assert benchmark.summarise(rows)["questions"] == 1 and benchmark.submission_file(rows)[0].endswith(".xlsx")


def test_vlmevalkits_rows_name_each_others_pictures(tmp_path):
    benchmark, (sample, other) = mmbench(tmp_path, ROW, ROW | {"index": "1000241", "image": "241"})
    assert benchmark.images(other)[0].tobytes() == benchmark.images(sample)[0].tobytes()


@pytest.fixture
def pope(tmp_path):
    """The three files of POPE at e3e3926 with two questions each, and a folder of their pictures."""
    (tmp_path / "coco").mkdir()
    (tmp_path / "val2014").mkdir()
    for category in CATEGORIES:
        row = {"text": "Is there a dog in the image?"}
        answers = {1: "no", 2: "yes"}
        rows = [row | {"question_id": k, "image": f"COCO_{k}.jpg", "label": answers[k]} for k in answers]
        (tmp_path / f"coco/coco_pope_{category}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for k in (1, 2):
        picture(k).save(tmp_path / f"val2014/COCO_{k}.jpg")
    return tmp_path


def test_popes_own_files(pope):
    benchmark = make("pope", path=f"{pope}/coco", pictures=f"{pope}/val2014")
    samples = benchmark.load()
    assert {sample.id for sample in samples} == {f"{c}/{k}" for c in CATEGORIES for k in (1, 2)}
    assert samples[0].question == "Is there a dog in the image?"
    assert {sample.answer for sample in samples} == {"yes", "no"}
    assert [sample.image_id for sample in samples] == ["COCO_1.jpg"] * 3 + ["COCO_2.jpg"] * 3  # encoded once each
    for sample in samples:
        benchmark.check_media(sample)
        assert benchmark.images(sample)[0].size == (40, 30)
    alone = make("pope", path=f"{pope}/coco/coco_pope_random.json", pictures=f"{pope}/val2014")
    assert [sample.category for sample in alone.load()] == ["random", "random"]
    before = benchmark.identity()
    picture(7).save(pope / "val2014/COCO_2.jpg")
    benchmark.load()
    assert benchmark.identity() != before


def test_popes_pictures_have_to_be_somewhere(pope):
    alone = make("pope", path=f"{pope}/coco/coco_pope_random.json")
    with pytest.raises(BadSample, match=r"COCO_1\.jpg is missing"):
        alone.images(alone.load()[0])
    with pytest.raises(UserError, match=r"benchmark\.pictures=/no: no such folder"):
        make("pope", path=f"{pope}/coco", pictures="/no").load()


def test_streaming_is_a_setting_of_every_benchmark_on_the_hub():
    for name in find_choices("benchmark"):
        if "revision" in (settings := read_choice("benchmark", name)):
            assert settings["streaming"] is None
    assert build(["benchmark=gqa", "benchmark.streaming=true"]).streaming is True
