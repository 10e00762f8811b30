"""`--dry-run` tells before what the runs come to, and leaves no trace."""

from __future__ import annotations

import pytest

from vlmprune.cli import main
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.estimate import estimate_cost


@pytest.mark.slow
def test_tokens_and_flops_are_those_of_the_runs(place, capsys):
    settings = ("method=none,cls,fastv,compose,tome,pool", "ratio=0.8", "baselines=false")
    assert place.sweep(*settings) == 0
    answers = place.answers()
    for job in place.state["jobs"]:
        told, came = estimate_cost(compose_run(job["overrides"])), answers[job["directory"].rpartition("/")[2]]
        tokens, flops = came["tokens"], came["flops"]
        assert (told.total, told.kept) == (tokens["total"], tokens["kept"]["mean"])
        assert told.layer_averaged == pytest.approx(tokens["layer_averaged"])
        assert told.flops == pytest.approx(flops["total"] - flops["decode"])
        assert not told.at_most


def test_an_adaptive_method_is_told_as_a_bound():
    told = estimate_cost(compose_run(["method=prumerge", "limit=4"]))
    assert told.at_most and told.kept == told.total == 144


def test_flops_follow_the_convention():
    ours, theirs = (
        estimate_cost(compose_run(["keep=9", "limit=4", f"flops.convention={name}"]))
        for name in ("vlmprune", "fastervlm")
    )
    assert ours.kept == theirs.kept and ours.flops != theirs.flops


def test_a_sweep_is_shown_with_what_is_done(place, capsys):
    quick = ["show.samples=0", "latency_samples=0", "logger=none", "limit=4", "device=cpu"]
    assert main(["run", "method=uniform", "keep=9", *quick]) == 0
    (directory,) = (place.folder / "outputs/scenes/tiny").glob("uniform-*")
    assert main(["run", "method=cls", "keep=9", *quick]) == 0
    (partial,) = (place.folder / "outputs/scenes/tiny").glob("cls-*")
    (partial / "result.json").unlink()
    before = {file: file.stat().st_mtime_ns for file in place.folder.rglob("*")}
    capsys.readouterr()

    assert main(["sweep", "--dry-run", "method=cls,scm,uniform,fastv", "keep=9", "baselines=false", *quick]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("method=")}
    assert "9 of 144" in rows["method=fastv"] and "GFLOPs" in rows["method=fastv"]
    assert rows["method=fastv"].endswith("new") or " new" in rows["method=fastv"]
    assert "partly done: 4 answered" in rows["method=cls"] and "finished" in rows["method=uniform"]
    assert "NOT APPLICABLE" in rows["method=scm"] and "nominal" in shown
    assert {file: file.stat().st_mtime_ns for file in place.folder.rglob("*")} == before
    assert directory.exists()


def test_the_launcher_is_checked(place, capsys):
    wanted = ["method=uniform", "keep=9", "limit=4", "device=cpu", "launcher=gpus"]
    assert main(["sweep", "--dry-run", *wanted]) == 2
    assert "say how many processes" in capsys.readouterr().err
    assert main(["sweep", "--dry-run", *wanted, "launcher.workers=9999"]) == 2
    assert "launcher.workers=9999: this machine has" in capsys.readouterr().err


def test_a_run_is_shown_with_its_config(place, capsys):
    assert main(["run", "--dry-run", "method=fastv", "ratio=0.9", "limit=4"]) == 0
    shown = capsys.readouterr().out
    assert "_target_: vlmprune.methods.fastv.FastV" in shown and "14 of 144" in shown and "57.33" in shown
    assert "outputs/scenes/tiny/fastv-0.9-" in shown
    assert not (place.folder / "outputs").exists()
    assert main(["run", "--dry-run", "method=scm", "ratio=0.9"]) == 2
