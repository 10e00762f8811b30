"""`vlmprune run`, `sweep` and `compare` from end to end on the embedded model."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch

from tests.loggers.wandb_reader import read_closed_run
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.plan import make_plan
from vlmprune.machine import openmp_settings
from vlmprune.run import describe_run

QUICK = ("limit=24", "batch_size=8", "latency_samples=2", "logger=none")


def only_run(outputs: Path, pattern: str) -> Path:
    (directory,) = outputs.glob(f"scenes/tiny/{pattern}")
    return directory


def test_a_run_says_what_it_did_and_leaves_its_files(vlmprune, tmp_path):
    done = vlmprune("run", "method=cls", "ratio=0.9", *QUICK)
    assert done.returncode == 0, done.stderr
    for expected in ("accuracy", "14 of 144 kept", "FLOPs", "prefill", "end to end", "files", "next"):
        assert expected in done.stdout
    header, *phases = done.stderr.splitlines()
    assert header.startswith("tiny on scenes · 24 questions · ") and header.endswith(", float32, sdpa attention")
    lines = ["load", "answers: 24 questions", "timing: 2 questions", "pictures"]
    assert phases[0] == "cls ratio=0.9 · load" and {f"cls ratio=0.9 · {line}" for line in lines} <= set(phases)
    seconds = r"[\d.]+ (s|min)"
    rate = rf"{seconds} \([\d.]+ questions/s\)"
    last = rf"cls ratio=0.9 · load {seconds}, answers {rate}, timing {seconds}, pictures {seconds}"
    assert re.fullmatch(last, phases[-1])
    directory = only_run(tmp_path / "outputs", "cls-0.9-*")
    names = {"config.yaml", "environment.json", "predictions.jsonl", "kept.jsonl", "result.json"}
    assert names <= {file.name for file in directory.iterdir()}
    result = json.loads((directory / "result.json").read_text())
    assert result["answers"]["samples"] == 24
    openmp = openmp_settings() or {"GOMP_SPINCOUNT": "1000"}
    assert result["environment"]["openmp"] == result["timings"]["latency"]["conditions"]["openmp"] == openmp
    assert result["answers"]["tokens"]["kept"] == {"mean": 14.0, "min": 14, "max": 14}
    assert result["timings"]["kv_cache_bytes"]["pruned"] < result["timings"]["kv_cache_bytes"]["unpruned"]
    assert directory.name.endswith(result["fingerprint"][:12])

    kept = [json.loads(line) for line in (directory / "kept.jsonl").read_text().splitlines()]
    assert len({line["image_id"] for line in kept}) == len(kept) == result["answers"]["images"]
    assert all(bin(int(line["kept"], 16)).count("1") == 14 for line in kept)

    again = vlmprune("run", "method=cls", "ratio=0.9", *QUICK)
    assert again.returncode == 0
    assert "already finished" in again.stderr
    assert "14 of 144 kept" in again.stdout


@pytest.mark.parametrize(
    ("device", "built", "said"),
    [
        ("auto", True, "cpu (no GPU found), float32, sdpa attention"),
        ("auto", False, "cpu (this torch has no CUDA), float32, sdpa attention"),
        ("cpu", True, "cpu, float32, sdpa attention"),
    ],
)
def test_a_run_says_why_it_is_on_the_cpu(device, built, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    plan = make_plan(compose_run([f"device={device}", "limit=3", "ratio=0.5"]))
    environment = {"device": str(plan.device), "dtype": "float32", "devices": 1, "attention": "sdpa"}
    assert describe_run(plan, environment) == f"tiny on scenes · 3 questions · {said}"


@pytest.mark.slow
def test_two_runs_give_equal_predictions_whatever_the_batch(vlmprune, tmp_path):
    predictions = []
    for folder, batch in (("a", "8"), ("b", "8"), ("c", "5")):
        vlmprune("run", "method=random", "ratio=0.8", *QUICK, f"batch_size={batch}", f"outputs={folder}")
        file = only_run(tmp_path / folder, "random-0.8-*") / "predictions.jsonl"
        predictions.append(sorted(file.read_text().splitlines()))  # a batch size may change their order
    assert predictions[0] == predictions[1] == predictions[2]


@pytest.mark.slow
def test_a_sweep_adds_baselines_shares_the_model_and_compares(vlmprune, tmp_path):
    done = vlmprune("sweep", "method=cls,fastv", "ratio=0.5,0.9", *QUICK)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "outputs/scenes/tiny").iterdir())
    randoms = ["random-0.3333", "random-0.5", "random-0.6019", "random-0.9"]  # at the work of each of the others
    assert names == ["cls-0.5", "cls-0.9", "fastv-0.5", "fastv-0.9", "none-default", *randoms]
    assert "[9/9]" in done.stderr
    compared = vlmprune("compare", "format=csv", "chart=chart.png")
    assert compared.returncode == 0, compared.stderr
    rows = list(csv.DictReader(io.StringIO(compared.stdout)))
    assert [row["method"] for row in rows if row["versus_random"]] == ["cls", "cls", "fastv", "fastv"]
    assert (tmp_path / "chart.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_wandb_run_on_disk_mirrors_the_result(vlmprune, tmp_path):
    done = vlmprune("run", "method=cls", "ratio=0.9", "limit=8", "latency_samples=2")
    assert done.returncode == 0, done.stderr
    assert "wandb sync" in done.stdout
    (file,) = tmp_path.rglob("*.wandb")
    directory = only_run(tmp_path / "outputs", "cls-0.9-*")
    assert directory in file.parents
    result = json.loads((directory / "result.json").read_text())
    run = read_closed_run(file)
    assert run.exit_code == 0
    assert run.summary["score"] == result["answers"]["score"]
    assert run.config["fingerprint"] == result["fingerprint"]
    assert run.summary["samples/_type"] == "table-file"


@pytest.mark.slow
def test_none_at_ratio_0_is_the_unpruned_run(vlmprune, tmp_path):
    assert vlmprune("run", "method=none", "ratio=0", *QUICK).returncode == 0
    assert only_run(tmp_path / "outputs", "none-*").name.startswith("none-default-")
    assert "of unpruned" in vlmprune("run", "method=cls", "ratio=0.9", *QUICK).stdout
