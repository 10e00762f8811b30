"""The examples of CONTRIBUTING.md and docs/benchmarks.md work, and docs/scoring.md says what the scorers declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmarks.fixtures import picture
from tests.runs import run
from vlmprune.benchmarks.base import Benchmark
from vlmprune.config.registry import find_choices, read_choice, target_class
from vlmprune.config.settings import compose_run

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "docs" / "benchmarks.md").read_text()


def test_the_metrics_are_those_of_the_scorers():
    classes = [
        target_class(read_choice("benchmark", name)["_target_"], Benchmark) for name in find_choices("benchmark")
    ]
    text = (ROOT / "docs" / "scoring.md").read_text()
    for metric in {cls.metric for cls in classes}:
        better = "higher" if metric.higher_is_better else "lower"
        assert f"| {metric.name} | {metric.lowest:g} to {metric.highest:g} | {better} |" in text


def block(start: str) -> str:
    """The indented example that begins with `start`, without its indentation."""
    found = re.search(rf"^    {re.escape(start)}.*\n(?:(?:    .*)?\n)*", DOCS, re.MULTILINE)
    assert found is not None
    return re.sub(r"^    ", "", found[0], flags=re.MULTILINE)


@pytest.mark.parametrize("kind", ["a YAML", "a YAML and a file"])
def test_the_examples(kind, tmp_path, monkeypatch):
    from datasets import Dataset

    rows = [
        {"picture": picture(k), "text": "How many?", "a": "1", "b": "2", "c": "3", "label": k % 3} for k in range(6)
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / "data.parquet")
    (tmp_path / "configs/benchmark").mkdir(parents=True)
    yaml = block("_target_: vlmprune.benchmarks.choices")
    if kind == "a YAML and a file":
        code = block("from dataclasses import dataclass") + block("from vlmprune.benchmarks.submission import")
        (tmp_path / "counting.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        yaml = re.sub("_target_: .*", "_target_: counting.Counting", yaml)
        yaml = re.sub("answer_is: .*\n", "submission: counting.counts\n", yaml)  # answer_is is of multiple choice
    (tmp_path / "configs/benchmark/colors.yaml").write_text(yaml)
    settings = ["benchmark=colors", f"benchmark.path={tmp_path}/data.parquet", f"outputs={tmp_path}/out", "logger=none"]
    config = compose_run([*settings, "method=none", "latency_samples=0"], str(tmp_path / "configs"))
    assert run(config)["answers"]["samples"] == 6
    assert len(list(tmp_path.glob("out/**/counts.txt"))) == (kind == "a YAML and a file")


def test_the_folder_example(tmp_path):
    from tests.benchmarks.fixtures import write_video

    (tmp_path / "questions.jsonl").write_text(block('{"image": "a.png"'))
    for name in ("a.png", "b.png"):
        picture(len(name)).save(tmp_path / name)
    write_video(tmp_path / "clip.mp4")
    settings = ["benchmark=folder", f"benchmark.path={tmp_path}", f"outputs={tmp_path}/out", "benchmark.num_frames=2"]
    result = run(compose_run([*settings, "method=cls", "ratio=0.9", "latency_samples=0", "logger=none"]))
    assert result["answers"]["samples"] == 3 and result["bad_samples"]["count"] == 0
