"""Random pruning that a sweep adds: at the layer-averaged tokens of each job, once, wherever the jobs run."""

from __future__ import annotations

import csv
import io

import pytest

from tests.sweep.conftest import QUICK
from vlmprune.cli import main
from vlmprune.evaluation.estimate import estimate_cost
from vlmprune.evaluation.plan import Resources
from vlmprune.results.comparison import same_token_count
from vlmprune.sweep.inspection import check_jobs
from vlmprune.sweep.jobs import Job, plan_jobs


def jobs_of(*settings: str, here: bool = True) -> list[Job]:
    return check_jobs(plan_jobs([*settings, "limit=4", "device=cpu"], None), here, Resources(), baselines=True)


def titles(*settings: str) -> list[str]:
    return [job.title for job in jobs_of(*settings)]


def test_a_method_inside_the_language_model_has_its_own():
    """FastV's first two of six layers see all 144 tokens: (2 * 144 + 4 * 72) / 6 = 96, two thirds, are the mean."""
    assert titles("method=cls,fastv", "ratio=0.5") == [
        "method=none",
        "method=random ratio=0.5",
        "method=random ratio=0.3333",
        "method=cls ratio=0.5",
        "method=fastv ratio=0.5",
    ]
    # Nothing is compared with random pruning at FastV's own ratio.
    assert titles("method=fastv", "ratio=0.5") == [
        "method=none",
        "method=random ratio=0.3333",
        "method=fastv ratio=0.5",
    ]


@pytest.mark.parametrize("amount", ["ratio=0.9", pytest.param("keep=9", marks=pytest.mark.slow)])
def test_every_job_has_random_pruning_at_its_tokens(amount):
    names = "method=cls,uniform,fastv,pyramiddrop,sparsevlm,visionzip,tome,pool,compose"
    jobs = jobs_of(names, amount)
    tokens = {id(job): estimate_cost(job.config).layer_averaged for job in jobs}
    random = [tokens[id(job)] for job in jobs if job.record.method == "random"]
    compared = [job for job in jobs if job.record.method not in ("none", "random")]
    assert len(compared) > 5
    for job in compared:
        if job.record.status == "waiting":
            assert any(same_token_count(each, tokens[id(job)]) for each in random), job.title
    assert len({job.record.directory for job in jobs}) == len(jobs)
    used = [any(same_token_count(each, tokens[id(job)]) for job in compared) for each in random]
    assert all(used) and len(random) < len(compared)  # methods with as many tokens share one


def test_a_published_schedule_has_one_too():
    """PyramidDrop's six layers see 144, 144, 72, 36, 36 and 18 tokens, 75 in the mean."""
    assert [title for title in titles("method=pyramiddrop") if "random" in title] == ["method=random ratio=0.4792"]


def test_equal_budgets_need_no_further_one():
    """As published, FastV keeps 101 of 144 after two of six layers, 115.3 in the mean."""
    found = titles("method=fastv", "ratio=0.3", "budget=average,published")
    assert [title for title in found if "random" in title] == ["method=random ratio=0.3", "method=random ratio=0.1991"]


def test_other_settings_and_seeds_have_their_own():
    jobs = jobs_of("method=fastv", "ratio=0.5", "positions=keep", "seed=0,1")
    added = [job.overrides for job in jobs if job.record.method == "random"]
    assert [sorted(each) for each in added] == [
        sorted(["method=random", "ratio=0.3333", "positions=keep", f"seed={seed}", "limit=4", "device=cpu"])
        for seed in (0, 1)
    ]
    assert all(job.is_added for job in jobs if job.record.method == "random")


def test_what_was_requested_stays():
    found = titles("method=random,fastv", "ratio=0.5")
    assert "method=random ratio=0.5" in found and "method=random ratio=0.3333" in found
    assert len([title for title in titles("method=random,fastv", "ratio=0.5,0.3333") if "random" in title]) == 3


def test_without_baselines_there_is_none():
    jobs = plan_jobs(["method=fastv", "ratio=0.5", "limit=4"], None, baselines=False)
    assert [job.title for job in check_jobs(jobs, True, Resources())] == ["method=fastv"]


def test_where_tokens_are_not_known_before_the_amount_is_that_of_the_job():
    assert titles("method=prumerge") == ["method=none", "method=prumerge"]  # adaptive: they depend on the picture


def test_where_no_question_can_be_used_the_job_says_so(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    lines = [f'{{"id": {i}, "image": "{i}.png", "question": "Which?", "answer": "red"}}' for i in range(3)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    jobs = jobs_of("method=fastv", "ratio=0.5", "benchmark=folder", f"benchmark.path={tmp_path}")
    assert [job.record.method for job in jobs] == ["none", "random", "fastv"]


@pytest.mark.slow
def test_elsewhere_too(monkeypatch):
    """Where the device is another machine's, and no plan exists here."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    jobs = plan_jobs(["method=fastv", "ratio=0.5", "limit=4"], None)
    found = check_jobs(jobs, False, Resources(), baselines=True)
    assert [(job.title, job.plan) for job in found][1] == ("method=random ratio=0.3333", None)


def test_a_dry_run_shows_them(place, capsys):
    assert main(["sweep", "--dry-run", "method=fastv", "ratio=0.5", *QUICK]) == 0
    rows = {tuple(line.split()[:2]): line for line in capsys.readouterr().out.splitlines() if "method=" in line}
    assert "96 of 144" in rows["method=random", "ratio=0.3333"]
    assert main(["sweep", "--dry-run", "method=fastv", "ratio=0.5", "baselines=false", *QUICK]) == 0
    assert "random" not in capsys.readouterr().out


def test_the_table_of_a_default_sweep_has_every_difference_from_random(place, capsys):
    assert place.sweep("method=cls,fastv,pool", "ratio=0.9") == 0
    assert list(place.statuses.values()) == ["done"] * 7
    capsys.readouterr()
    assert main(["compare", "format=csv"]) == 0
    rows = {row["method"]: row["versus_random"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["cls"] and rows["fastv"] and rows["pool"] and not rows["random"]
    assert main(["compare"]) == 0
    assert "no random pruning" not in capsys.readouterr().out
    assert place.sweep("method=cls,fastv,pool", "ratio=0.9") == 0  # the same command finds the same jobs
    assert list(place.statuses.values()) == ["skipped"] * 7
