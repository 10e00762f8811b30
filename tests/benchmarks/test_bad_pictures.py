"""A picture or text that decoder, processor or tokenizer cannot take is one broken sample, in every way of asking."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.benchmarks.fixtures import picture
from tests.models.hub import save
from tests.runs import run
from vlmprune.benchmarks.base import BadSample
from vlmprune.cli import main
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.estimate import estimate_cost
from vlmprune.evaluation.evaluate import load_models
from vlmprune.evaluation.media_loader import MediaCache
from vlmprune.evaluation.plan import Resources, make_plan

QUICK = ["benchmark.max_new_tokens=2", "latency_samples=0", "show.samples=0", "logger=none"]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return save(tmp_path_factory.mktemp("hub") / "qwen2_5_vl", "qwen2_5_vl")


@pytest.fixture
def folder(tmp_path):
    """Eight questions: a picture too thin for Qwen, an empty file, a text; half a character is mended as it is read."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number in range(8):
        picture(number).save(folder / f"{number}.png")
        rows.append({"id": f"q{number}", "image": f"{number}.png", "question": "What color", "answer": "red"})
    Image.new("RGB", (1000, 3)).save(folder / "1.png")
    (folder / "3.png").write_bytes(b"")
    (folder / "4.png").write_text("no picture")
    rows[6]["question"] = "half a \ud83d"
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(folder, qwen):
    where = [f"benchmark.path={folder}", f"outputs={folder.parent}/out", f"model.path={qwen}"]
    return ["benchmark=folder", "model=path", "method=none", *where, *QUICK]


def test_the_first_ends_the_run_in_a_line(folder, qwen):
    with pytest.raises(UserError) as raised:
        run(compose_run(settings(folder, qwen)))
    line = str(raised.value)
    assert line.startswith("sample q1: 1.png: the model's image processor takes no picture of 1000 x 3 pixels")
    assert "aspect ratio must be smaller than 200" in line
    assert line.endswith("(benchmark=folder); on_bad_sample=skip leaves such samples out")
    assert isinstance(raised.value.__cause__, BadSample)


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_skipped_ones_leave_the_rest_of_their_batch(folder, qwen, batch_size, capsys):
    skip = [*settings(folder, qwen), "on_bad_sample=skip", f"batch_size={batch_size}"]
    result = run(compose_run(skip))
    assert result["bad_samples"] == {"count": 3, "ids": ["q1", "q3", "q4"]}
    assert result["answers"]["samples"] == 5
    (file,) = folder.parent.rglob("bad.jsonl")
    reasons = {row["id"]: row["reason"] for row in map(json.loads, file.read_text().splitlines())}
    assert reasons["q1"].startswith("1.png: the model's image processor takes no picture of 1000 x 3 pixels")
    assert reasons["q3"] == f"its image cannot be decoded ({folder}/3.png: no picture that PIL knows)"
    assert reasons["q4"] == f"its image cannot be decoded ({folder}/4.png: no picture that PIL knows)"
    assert "left out: sample q1: 1.png" in capsys.readouterr().err


def test_a_dry_run_leaves_them_out_too(folder, qwen):
    assert estimate_cost(compose_run([*settings(folder, qwen), "on_bad_sample=skip"])).total > 0
    rows = (folder / "questions.jsonl").read_text().splitlines()
    (folder / "questions.jsonl").write_text("\n".join((rows[3], rows[1])))
    with pytest.raises(UserError, match="none of the 2 samples can be used; the first, q3: its image cannot"):
        estimate_cost(compose_run(settings(folder, qwen)))


def test_show_says_it_in_a_line(folder, qwen, capsys):
    where = [f"model.path={qwen}", "model=path", "method=none", f"file={folder}/shown.png"]
    for asked, said in {
        ("0.png", "4.png"): f"the image cannot be decoded ({folder}/4.png: no picture that PIL knows)",
        ("1.png",): "1.png: the model's image processor takes no picture of 1000 x 3 pixels",
    }.items():
        assert main(["show", *(f"{folder}/{name}" for name in asked), "What color", *where]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vlmprune:")]
        assert said in line
    assert main(["show", f"{folder}/0.png", "half a \ud83d", *where]) == 2
    assert "0.png: its prompt cannot be tokenized" in capsys.readouterr().err


def test_the_orientation_is_part_of_a_run(folder, tmp_path):
    """Of its fingerprint, of what is compared with what, and of the pictures, also where a sweep shares the data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "0.png", exif=exif.tobytes())
    given = ["benchmark=folder", f"benchmark.path={folder}", f"outputs={tmp_path}/out", "method=none"]
    upright, stored = (make_plan(compose_run([*given, *more])) for more in ([], ["orientation=stored"]))
    assert upright.directory.fingerprint != stored.directory.fingerprint
    assert upright.comparable["benchmark"] != stored.comparable["benchmark"]
    sizes = [plan.benchmark.images(plan.samples[0])[0].size for plan in (upright, stored)]
    assert sizes == [(20, 40), (40, 20)]
    with pytest.raises(UserError, match=r"benchmark\.orientation: unknown setting"):
        make_plan(compose_run([*given, "+benchmark.orientation=stored"]))
    with pytest.raises(
        UserError, match=r"orientation=uprigth: expected upright or stored \(did you mean 'upright'\?\)"
    ):
        compose_run(["orientation=uprigth"])


def test_a_picture_turned_is_another_to_the_store_of_encodings(tmp_path):
    """The store lies on disk for later runs and knows tiles by what the encoder is given."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3, (60, 20)).save(tmp_path / "0.png", exif=exif.tobytes())
    (tmp_path / "questions.jsonl").write_text('{"image": "0.png", "question": "What color", "answer": "red"}')
    given = ["benchmark=folder", f"benchmark.path={tmp_path}", "method=none"]
    plans = [make_plan(compose_run([*given, f"orientation={name}"])) for name in ("upright", "stored", "upright")]
    loaded, _ = load_models(plans[0], Resources())
    tiles = [MediaCache(plan.benchmark, loaded, named=True)[plan.samples[0]][0].tiles for plan in plans]
    assert tiles[0] == tiles[2] != tiles[1]
