"""The evaluation's ways of saving work change no answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.runs import run
from vlmprune.config.settings import compose_run
from vlmprune.errors import NotApplicable, UserError
from vlmprune.evaluation.plan import Resources

SMALL = ["limit=60", "latency_samples=0", "logger=none", "show.samples=0"]
PLAIN = ["share_prefix=false", "features.memory_mb=0", "batch_size=1"]


def answers(outputs: Path, *overrides: str, resources: Resources | None = None) -> tuple[dict, dict]:
    """A run's timings, and its prediction and kept lines by id, in `outputs`, a folder of its own."""
    result = run(compose_run([*SMALL, f"outputs={outputs}", *overrides]), resources)
    (directory,) = (path.parent for path in outputs.rglob("result.json"))
    rows = [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]
    assert max(Counter(row["id"] for row in rows).values()) == 1
    kept = directory / "kept.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    by_id = {row["id"]: row for row in rows} | {
        str(line.get("id") or line["image_id"]): line for line in lines if "n" in line
    }
    return result, by_id


METHODS = [
    pytest.param(["method=none"], marks=pytest.mark.slow),
    ["method=cls", "ratio=0.9"],
    pytest.param(["method=cls", "ratio=0.9", "positions=keep"], marks=pytest.mark.slow),
    pytest.param(["method=tome", "ratio=0.5"], marks=pytest.mark.slow),
    pytest.param(["method=prumerge"], marks=pytest.mark.slow),
    pytest.param(["method=fastv", "ratio=0.9"], marks=pytest.mark.slow),
]


@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_answers_are_those_of_one_question_at_a_time(tmp_path, method):
    _, expected = answers(tmp_path / "plain", *method, *PLAIN)
    result, found = answers(tmp_path / "fast", *method, "batch_size=7")
    assert found == expected
    timings = result["timings"]["evaluation"]
    alone = method[0] == "method=fastv"
    assert timings["whole_prompts"] == (60 if alone else 0)
    assert (timings["beginnings"] > 0) is not alone
    assert timings["batch_size"] == {"asked": 7, "used": 7}
    assert result["environment"]["batch_size"] == 7


def test_the_next_job_of_a_sweep_does_not_encode_again(tmp_path):
    shared = Resources()
    answers(tmp_path / "a", "method=fastv", "ratio=0.5", resources=shared)
    loaded = shared.model
    misses = loaded.features.misses
    answers(tmp_path / "b", "method=fastv", "ratio=0.9", resources=shared)
    assert shared.model is loaded and loaded.features.misses == misses > 0


def test_features_on_disk_serve_the_next_process(tmp_path):
    folder = f"features.folder={tmp_path / 'features'}"
    _, expected = answers(tmp_path / "a", "method=cls", "ratio=0.5", folder)
    other = Resources()
    _, found = answers(tmp_path / "b", "method=cls", "ratio=0.5", folder, resources=other)
    features = other.model.features
    assert features.misses == 0 and features.hits
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", None], ids=["traced", "inductor"])
def test_compiled_decode_steps_give_the_same_ids(backend, tmp_path, monkeypatch):
    monkeypatch.setattr("vlmprune.evaluation.evaluate.BACKEND", backend)
    _, expected = answers(tmp_path / "plain", "method=cls", "ratio=0.9", *PLAIN)
    torch._dynamo.utils.counters.clear()
    _, found = answers(tmp_path / "compiled", "method=cls", "ratio=0.9", "compile=true", "batch_size=16")
    assert found == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_compile_is_refused_where_it_could_do_nothing(tmp_path):
    with pytest.raises(NotApplicable, match="compile=true: fastv"):
        run(compose_run([*SMALL, "method=fastv", "ratio=0.5", "compile=true", f"outputs={tmp_path}"]))
    with pytest.raises(UserError, match="share_prefix=true"):
        run(compose_run([*SMALL, "ratio=0.5", "compile=true", "share_prefix=false", f"outputs={tmp_path}"]))
