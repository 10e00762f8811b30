"""Pictures as cells store them, each decoded or named for what it is."""

from __future__ import annotations

import base64
import json

import pytest
from datasets import Dataset
from PIL import Image

from tests.benchmarks.fixtures import chartqa, encoded, mmmu, picture
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.choices import renumber_markers
from vlmprune.benchmarks.media import decode_image, named_files
from vlmprune.benchmarks.stored import stored_picture

PICTURE = encoded(picture(3))
TEXT = base64.b64encode(PICTURE).decode()
WIDE = base64.encodebytes(encoded(picture(3), "BMP")).decode()  # in lines
SAFE = base64.urlsafe_b64encode(PICTURE).decode().rstrip("=")


@pytest.mark.parametrize(
    "cell",
    [
        PICTURE,
        {"bytes": PICTURE, "path": None},
        {"bytes": TEXT},
        TEXT,
        WIDE,
        SAFE,
        f"data:image/png;base64,{TEXT}",
        {"path": f"DATA:;base64,{TEXT}"},
        "3.png",
        {"bytes": None, "path": "3.png"},
    ],
    ids=range(10),
)
def test_pictures(cell, tmp_path):
    picture(3).save(tmp_path / "3.png")
    assert decode_image(cell, tmp_path).tobytes() == picture(3).tobytes()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, "is missing"),
        ({"bytes": None, "path": None}, "is missing"),
        (float("nan"), "is missing"),
        ("no.png", r"no\.png is missing"),
        ("a" * 300, r"aaa\.\.\. \(300 characters\) is neither a file's name nor a picture in base64"),
        ("a" * 300 + ".png", r"\(304 characters\) is neither a file's name"),
        ("\0.png", "is missing"),
        ("data:image/png,abc", "is no data: URI in base64"),
        ("data:image/png;base64,a?", "is not valid base64"),
        (base64.b64encode(b"\x89PNG" + b"x" * 60).decode(), "cannot be decoded"),
        ("http://x.org/a.png", "is an address: download it"),
        (5, "is 5; expected a file's name, encoded bytes or base64"),
        ({"src": "x"}, "is an object with src; expected bytes or path"),
        ({"bytes": encoded(Image.effect_noise((64, 64), 90))[:900], "path": None}, "cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(cell, said, tmp_path):
    with pytest.raises(BadSample, match=said) as caught:
        decode_image(cell, tmp_path)
    assert len(str(caught.value)) < 200
    assert list(named_files([cell], tmp_path)) == []


def test_a_file_comes_before_base64(tmp_path):
    name = base64.b64encode(PICTURE).decode()[:80].replace("/", "a")
    (tmp_path / name).write_bytes(b"x")
    assert stored_picture(name, tmp_path) == tmp_path / name


def test_a_binary_column(tmp_path):
    Dataset.from_list([chartqa(0) | {"image": PICTURE}]).to_parquet(tmp_path / "test.parquet")
    benchmark = make("chartqa", path=f"{tmp_path}/test.parquet")
    (sample,) = benchmark.load()
    assert benchmark.images(sample)[0].tobytes() == picture(3).tobytes()


def test_a_picture_in_base64_is_no_name(tmp_path):
    rows = [
        {"image": TEXT, "question": "Why?", "answer": "x"},
        {"image": ["3.png", None], "question": "?", "answer": "x"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    picture(3).save(tmp_path / "3.png")
    benchmark = make("folder", path=str(tmp_path))
    samples = benchmark.load()
    assert samples[0].image_id.startswith("sha256:") and benchmark.images(samples[0])[0].size == (40, 30)
    with pytest.raises(BadSample, match="its image is missing"):  # or "<image 2>" would be another
        benchmark.images(samples[1])


def test_a_gap_among_the_columns_of_images(tmp_path):
    """MMMU: image_2 is empty and image_3 is not."""
    gap = mmmu(0) | {f"image_{k}": picture(k) if k in (1, 3) else None for k in range(1, 8)}
    texts = {"question": "Is <image 3> like <image 1>, not <image 2>?", "options": "['<image 3>', '<image 1>']"}
    Dataset.from_list([gap | texts, mmmu(2)]).to_parquet(tmp_path / "test.parquet")
    benchmark = make("mmmu", path=f"{tmp_path}/test.parquet")
    sample, other = benchmark.load()
    assert [image.tobytes() for image in benchmark.images(sample)] == [picture(k).tobytes() for k in (1, 3)]
    prompt = benchmark.prompt(sample)
    assert prompt.startswith("Is <image 2> like <image 1>, not image 2?\nA. <image 2>\nB. <image 1>\n")
    assert benchmark.prompt(other).startswith("Compare <image 2> with <image 1>.")
    assert renumber_markers("<image 7>", [2, 7]) == "<image 2>"
