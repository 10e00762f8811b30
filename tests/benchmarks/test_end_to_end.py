"""Every benchmark from its dataset to its result, through the code that loads the hub's, with the embedded model."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.benchmarks.fixtures import ROWS
from tests.runs import run
from vlmprune.benchmarks.scoring import captions
from vlmprune.config.registry import find_choices, read_choice, target_class
from vlmprune.config.settings import compose_run

QUICK = ("method=cls", "ratio=0.9", "latency_samples=0", "logger=none", "limit=4", "batch_size=4")
CAPTIONS = ("coco_caption", "nocaps", "flickr30k")


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_it_runs_and_is_scored(name, overrides, tmp_path, monkeypatch):
    if name in CAPTIONS and importlib.util.find_spec("pycocoevalcap") is None:  # an extra: here without its numbers
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
        monkeypatch.setattr(captions, "summarise", lambda rows: {"cider": len(rows[0]["extra"]["answers"]) / 10})
    info = read_choice("benchmark", name)["info"]
    config = compose_run([*overrides(name), *QUICK, "benchmark.max_new_tokens=2", f"outputs={tmp_path}"])
    result = run(config)
    answers = result["answers"]
    assert answers["samples"] == 4 and result["bad_samples"]["count"] == 0
    assert answers["metric"] == info["metric"]
    assert result["subset"] == {"limit": 4, "shard": None, "seed": 0}
    if info["needs_judge"]:
        assert answers["score"] is None and answers["interval95"] is None and answers["metrics"] == {}
    else:
        assert 0 <= answers["score"] <= 1
        assert answers["metric"] in answers["metrics"]
    (file,) = tmp_path.rglob("predictions.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(row["visual"][-1][1] == 14 * row["images"] for row in rows)  # 14 of 144 tokens of every image
    if "num_frames" in config.benchmark and name != "folder":
        assert result["media"] == "video: 2 frames per question, given as images"
        assert answers["tokens"]["total"] == 288


def test_every_benchmark_has_a_fixture():
    assert set(find_choices("benchmark")) == {*ROWS, "scenes"}


@pytest.mark.parametrize("name", sorted(find_choices("benchmark")))
def test_the_yaml_says_what_the_class_does(name):
    from vlmprune.benchmarks.base import Benchmark

    data = read_choice("benchmark", name)
    cls = target_class(data["_target_"], Benchmark)
    assert data["info"]["metric"] == cls.metric.name
    assert data["info"]["needs_judge"] == (cls.protocol is not None)
    assert data["info"]["hub"] == (data.get("path") or "")
