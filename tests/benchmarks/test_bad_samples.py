"""Samples that cannot be used: fatal by default, left out and counted where asked for."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.fixtures import COUNT, chartqa, picture, write_video
from tests.runs import run
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError


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
    settings = ["benchmark=folder", f"benchmark.path={tmp_path}", "on_bad_sample=skip", f"outputs={tmp_path}/out"]
    with pytest.raises(UserError, match=r"none of the 1 samples can be used.*no\.png is missing"):
        run(compose_run([*settings, "method=none", "latency_samples=0", "logger=none"]))


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


def test_a_video_beside_another_file_is_left_out(tmp_path):
    """Else a picture would be two equal frames, and two videos one."""
    folder = tmp_path / "data"
    folder.mkdir()
    picture(0).save(folder / "a.png")
    write_video(folder / "v.mp4")
    shown = [["a.png", "v.mp4"], ["v.mp4", "v.mp4"], ["a.png", "a.png"], ["v.mp4"]]
    lines = [{"id": f"q{k}", "image": image, "question": "What?", "answer": "x"} for k, image in enumerate(shown)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = ["benchmark=folder", f"benchmark.path={folder}", "benchmark.num_frames=2", f"outputs={tmp_path}/out"]
    quick = ["benchmark.max_new_tokens=2", "method=none", "latency_samples=0", "logger=none", "on_bad_sample=skip"]
    assert run(compose_run([*settings, *quick]))["answers"]["samples"] == 2
    (file,) = tmp_path.rglob("bad.jsonl")
    for line, sample in zip(file.read_text().splitlines(), ("q0", "q1"), strict=True):
        reason = "its image names 2 files, a video among them; a video is asked about alone"
        assert json.loads(line) == {"id": sample, "reason": reason}
