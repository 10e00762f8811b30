"""Samples that cannot be used: fatal by default, left out and counted where asked for, in every way of asking."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.benchmarks.fixtures import COUNT, chartqa, picture, write_video
from tests.benchmarks.loading import make
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


@pytest.fixture
def overrides(tmp_path):
    """Twelve questions, of which one has a damaged image, one no image file and one no answer."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for k in range(COUNT):
        row = chartqa(k)
        row["image"].save(folder / f"{k}.png")
        lines.append(row | {"image": f"{k}.png", "id": f"q{k}"})
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    (folder / "5.png").unlink()
    del lines[7]["answer"]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [
        *("benchmark=folder", f"benchmark.path={folder}", "benchmark.max_new_tokens=2", f"outputs={tmp_path}/out"),
        *("method=cls", "ratio=0.9", "latency_samples=3", "logger=none", "batch_size=4"),
    ]


def test_skipped_ones_are_named_and_counted(overrides, tmp_path, capsys):
    result = run(compose_run([*overrides, "on_bad_sample=skip"]))
    assert result["bad_samples"] == {"count": 3, "ids": ["q2", "q5", "q7"]}
    assert result["answers"]["samples"] == COUNT - 3
    (file,) = tmp_path.rglob("bad.jsonl")
    reasons = {row["id"]: row["reason"] for row in map(json.loads, file.read_text().splitlines())}
    assert "cannot be decoded" in reasons["q2"]
    assert "5.png is missing" in reasons["q5"]
    assert "answer is absent" in reasons["q7"]
    printed = capsys.readouterr()
    assert "3 broken samples" in printed.out and "left out: sample q5" in printed.err

    with pytest.raises(UserError, match="left out 3 broken samples"):
        run(compose_run(overrides))
    assert run(compose_run([*overrides, "on_bad_sample=skip"])) == result


def test_a_run_that_failed_goes_on_with_skip(overrides, tmp_path, capsys):
    with pytest.raises(UserError):
        run(compose_run([*overrides, "batch_size=1"]))
    assert "resuming" not in capsys.readouterr().err
    run(compose_run([*overrides, "batch_size=1", "on_bad_sample=skip"]))
    assert "resuming: 2 of 12" in capsys.readouterr().err


def test_nothing_left_is_an_error(tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"image": "no.png", "question": "Why?", "answer": "x"}\n')
    where = ["benchmark=folder", f"benchmark.path={tmp_path}", f"outputs={tmp_path}/out"]
    with pytest.raises(UserError, match=r"none of the 1 samples can be used.*no\.png is missing"):
        run(compose_run([*where, "method=none", "on_bad_sample=skip", *QUICK]))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"picture": "a.png", "question": "Why?"}', "no row has the key 'image'; there are: picture, question"),
        ('{"image": "a.png", "questoin": "Why?"}', "columns.question=question: no such column"),
        ("", "is empty"),
    ],
)
def test_a_folder_with_bad_questions(lines, said, tmp_path):
    (tmp_path / "questions.jsonl").write_text(lines)
    with pytest.raises(UserError, match=said):
        run(compose_run(["benchmark=folder", f"benchmark.path={tmp_path}", "method=none", "logger=none"]))


def test_a_video_beside_another_file_is_bad(tmp_path):
    """Else a picture would be two equal frames, and two videos one."""
    picture(0).save(tmp_path / "a.png")
    write_video(tmp_path / "v.mp4")
    shown = [["a.png", "a.png"], ["v.mp4"], ["a.png", "v.mp4"], ["v.mp4", "v.mp4"]]
    lines = [{"image": image, "question": "What?", "answer": "x"} for image in shown]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    benchmark = make("folder", path=str(tmp_path), num_frames=2)
    samples = benchmark.load()
    assert [len(benchmark.images(sample)) for sample in samples[:2]] == [2, 2]
    for sample in samples[2:]:
        with pytest.raises(BadSample, match="its image names 2 files, a video among them"):
            benchmark.images(sample)


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
