"""benchmark=folder: how a question is asked, and how two folders are told apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.fixtures import picture
from tests.benchmarks.loading import build
from tests.runs import run
from vlmprune.cli.compare import Settings, filter_values, matches
from vlmprune.config.arguments import parse
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.plan import Resources, benchmark_name, load_benchmark, make_plan
from vlmprune.results.runs import read_run
from vlmprune.sweep.inspection import check_jobs
from vlmprune.sweep.jobs import plan_jobs

QUICK = ["method=none", "latency_samples=0", "logger=none", "show.samples=0", "device=cpu"]
QUICK += ["benchmark.max_new_tokens=2"]


def make(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    picture(1).save(folder / "a.png")
    row = {"image": "a.png", "question": f"What is in {folder.parent.name}?", "answer": "a disc"}
    (folder / "questions.jsonl").write_text("".join(json.dumps(row | each) + "\n" for each in rows or [{}]))
    return folder


def at(folder: Path) -> list[str]:
    return ["benchmark=folder", f"benchmark.path='{folder}'"]


def test_the_question_asks_for_what_can_be_compared(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", {"question": "What?"}, {"question": "Which?", "choices": ["a disc", "a cat"]})
    benchmark = build(at(folder))
    assert [benchmark.prompt(sample) for sample in benchmark.load()] == [
        "What?\nAnswer the question using a single word or phrase.",
        "Which?\nA. a disc\nB. a cat\nAnswer with the option's letter from the given choices directly.",
    ]
    plain = build([*at(folder), "benchmark.suffix=''", "benchmark.choice_suffix=' Which?'"])
    assert [plain.prompt(sample) for sample in plain.load()] == ["What?", "Which?\nA. a disc\nB. a cat Which?"]


def test_two_folders_have_two_names(tmp_path: Path) -> None:
    folders = [make(tmp_path / "x" / "data"), make(tmp_path / "y" / "data"), make(tmp_path / "x" / "b é")]
    names = [make_plan(compose_run([*at(folder), *QUICK])).directory.path.parts[-3] for folder in folders]
    assert len(set(names)) == 3
    assert [name.rpartition("-")[0] for name in names] == ["folder-data", "folder-data", "folder-b é"]
    moved = shutil.copytree(folders[0], tmp_path / "z" / "data")  # the same data, somewhere else
    config = compose_run([*at(moved), *QUICK])
    assert benchmark_name(config, load_benchmark(config)[0]) == names[0]


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    config = compose_run(at(make(tmp_path / (80 * "é"))))
    assert benchmark_name(config, load_benchmark(config)[0]).startswith(f"folder-{40 * 'é'}-")


def test_the_name_stands_in_results_tables_and_filters(tmp_path: Path) -> None:
    folder = make(tmp_path / "photos")
    result = run(compose_run([*at(folder), *QUICK, f"outputs={tmp_path}/out"]))
    (path,) = (path.parent for path in tmp_path.glob("out/*/*/*/result.json"))
    assert result["benchmark"] == path.parts[-3] and result["benchmark"].startswith("folder-photos-")
    found = read_run(path)
    assert not isinstance(found, str) and filter_values(found)["benchmark"] == result["benchmark"]
    for wanted, passes in (("folder", True), (result["benchmark"], True), ("fold", False), ("scenes", False)):
        assert matches(found, parse("compare", Settings, [f"benchmark={wanted}"]).filters) is passes


def test_a_sweep_tells_them_apart(tmp_path: Path) -> None:
    first, second = make(tmp_path / "x" / "data"), make(tmp_path / "y" / "data")
    settings = ["benchmark=scenes,folder", f"benchmark.path={first},{second}", "limit=1", *QUICK[1:5], "method=none"]
    jobs = check_jobs(plan_jobs([*settings, f"outputs={tmp_path}/out"], None), True, Resources())
    names = [job.record.benchmark for job in jobs]
    assert names[0] == "scenes" and len(set(names)) == 3


@pytest.mark.parametrize("key", ["suffix", "choice_suffix"])
def test_what_is_asked_is_part_of_the_run(tmp_path: Path, key: str) -> None:
    folder = make(tmp_path / "a")
    runs = [make_plan(compose_run([*at(folder), *QUICK, *more])) for more in ([], [f"benchmark.{key}=' Say it.'"])]
    assert runs[0].directory.path != runs[1].directory.path and runs[0].comparable != runs[1].comparable
