"""Out of memory: fewer questions at a time and the same answers; one clear line where a single one does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.robustness.left import left, run_folders
from tests.robustness.victims import ENVIRONMENT, shell
from tests.runs import run
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.models import loading

WAYS = {  # questions about one image share their beginning, or each goes through with its whole prompt
    "shared": ("method=cls", "share_prefix=true"),
    "whole": ("method=fastv",),
    "unshared": ("method=cls", "share_prefix=false"),
}
COMMON = ("ratio=0.9", "limit=12", "batch_size=8", "latency_samples=0", "show.samples=1", "logger=none")
BROKEN = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
}


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], list[int]]:
    """Give the model memory for so many prompts; returns how many it was given each time."""
    load = loading.load

    def limit(rows: int, error: Exception) -> list[int]:
        asked: list[int] = []

        def load_limited(*arguments):
            loaded = load(*arguments)
            generate = type(loaded.model).generate

            def generate_some(*given, **inputs):
                asked.append(len(inputs["input_ids"]))
                if asked[-1] > rows:
                    raise error
                return generate(loaded.model, *given, **inputs)

            monkeypatch.setattr(loaded.model, "generate", generate_some, raising=False)
            return loaded

        monkeypatch.setattr(loading, "load", load_limited)
        return asked

    return limit


def go(way: str, outputs: Path) -> dict:
    return run(compose_run([*WAYS[way], *COMMON, f"outputs={outputs}"]))


@pytest.mark.parametrize("broken", ["GPU", pytest.param("CPU", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "way", ["shared", *(pytest.param(way, marks=pytest.mark.slow) for way in ("whole", "unshared"))]
)
def test_smaller_batches_give_the_same_answers(way, broken, limited, tmp_path, capsys, monkeypatch):
    go(way, tmp_path / "calm")
    expected = left(tmp_path / "calm")
    for rows in (3, 1):
        asked = limited(rows, BROKEN[broken])
        result = go(way, tmp_path / str(rows))
        monkeypatch.undo()
        told = f"{sum(n > rows for n in asked)} of {len(asked)} batches did not fit"
        assert any(n > rows for n in asked) and left(tmp_path / str(rows)) == expected, told
        used = max(n for n in (4, 2, 1) if n <= rows)
        assert f"continuing with {used}\n" in capsys.readouterr().err, told
        assert result["timings"]["evaluation"]["batch_size"] == {"asked": 8, "used": used}, told


@pytest.mark.slow
@pytest.mark.parametrize("way", ["shared", "whole", "unshared"])
def test_a_question_that_does_not_fit_alone(way, limited, tmp_path, capsys, monkeypatch):
    asked = limited(0, BROKEN["GPU"])
    with pytest.raises(
        UserError, match=r"out of memory with one question at a time .CUDA out of memory.*resumes"
    ) as caught:
        go(way, tmp_path)
    assert asked == [8, 4, 2, 1] and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("result.json"))
    monkeypatch.undo()
    go(way, tmp_path)  # now there is memory
    go(way, tmp_path / "calm")
    (folder, calm) = sorted(run_folders(tmp_path), key=lambda path: "calm" in path.parts)
    answers = [json.loads((path / "result.json").read_text())["answers"] for path in (folder, calm)]
    assert answers[0] == answers[1]


def test_answers_that_are_written_when_memory_ends_are_not_asked_again(tmp_path, monkeypatch):
    append = RunDirectory.append

    def append_and_fail(directory: RunDirectory, *rows) -> None:
        append(directory, *rows)
        raise MemoryError

    monkeypatch.setattr(RunDirectory, "append", append_and_fail)
    with pytest.raises(UserError, match="out of memory while answers were written: the same command resumes"):
        go("shared", tmp_path / "disturbed")
    monkeypatch.undo()
    go("shared", tmp_path / "disturbed")
    go("shared", tmp_path / "calm")
    assert left(tmp_path / "disturbed") == left(tmp_path / "calm")


@pytest.mark.slow
def test_six_large_pictures_fit_into_six_gigabytes(tmp_path):
    """Pictures of 169 million pixels, four of which at a time would not fit: all are answered."""
    Image.new("L", (13_000, 13_000), 99).save(tmp_path / "0.png", compress_level=1)
    for number in range(1, 6):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
    rows = [{"id": f"q{n}", "image": f"{n}.png", "question": "What color", "answer": "red"} for n in range(6)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "benchmark=folder benchmark.path=. benchmark.max_new_tokens=2 outputs=out"
    command = f"vlmprune run method=none {data} latency_samples=0 show.samples=0 logger=none"
    done = shell(tmp_path, f"ulimit -v 6000000; {command}", **ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["answers"]["samples"] == 6
