"""Of several jobs, those in which a setting cannot act run without it; where it acts in none it is refused."""

from __future__ import annotations

import pytest

from vlmprune.cli import main
from vlmprune.errors import IdleSetting
from vlmprune.evaluation.plan import Resources
from vlmprune.sweep.inspection import check_jobs
from vlmprune.sweep.jobs import plan_jobs


def titles(*settings: str) -> list[str]:
    jobs = check_jobs(plan_jobs([*settings, "limit=4"], None, baselines=False), True, Resources())
    assert all(sorted(job.record.overrides) == sorted(job.config.overrides) for job in jobs)
    return [job.title for job in jobs]


def test_a_setting_that_acts_in_some(capsys):
    found = titles("method=cls,fastv", "ratio=0.5", "budget=average,published")
    assert found == ["method=cls", "method=fastv budget=average", "method=fastv budget=published"]
    assert capsys.readouterr().err.count("budget=average is left out where it cannot act: every decoder layer") == 1


def test_it_runs_in_the_directory_of_the_job_without_it():
    both = plan_jobs(["method=cls,fastv", "ratio=0.5", "budget=average", "limit=4"], None)
    plain = plan_jobs(["method=cls,fastv", "ratio=0.5", "limit=4"], None)
    known = Resources()
    left, whole = ({job.record.method: job.record for job in check_jobs(jobs, True, known)} for jobs in (both, plain))
    for name in ("none", "random", "cls"):
        assert left[name].directory == whole[name].directory
        assert "budget" not in f"{left[name].title} {left[name].overrides}"
    assert left["fastv"].directory != whole["fastv"].directory


def test_a_setting_that_acts_in_none():
    with pytest.raises(IdleSetting, match="budget=average: every decoder layer sees what cls keeps"):
        titles("method=cls,vtc_cls", "ratio=0.5", "budget=average")
    with pytest.raises(IdleSetting, match="orientation=stored: no picture of these data"):
        titles("method=cls", "ratio=0.5,0.9", "orientation=stored")


@pytest.mark.slow
def test_elsewhere_jobs_that_become_one_are_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    jobs = plan_jobs(["method=cls,fastv", "ratio=0.5", "budget=average,published", "limit=4"], None, False)
    assert [job.title for job in check_jobs(jobs, False, Resources())] == [
        "method=cls",
        "method=fastv budget=average",
        "method=fastv budget=published",
    ]
    jobs = plan_jobs(["method=cls,fastv", "ratio=0.5", "scope=image,tile", "limit=4"], None, False)
    with pytest.raises(IdleSetting, match="scope=image"):
        check_jobs(jobs, False, Resources())


@pytest.mark.slow
def test_speed_and_show(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = ["method=none,cls,fastv", "ratio=0.5", "budget=average"]
    assert main(["show", *settings]) == 0
    assert "budget=average is left out where it cannot act" in capsys.readouterr().err
    quick = ["batch_size=1", "speed.repeats=1", "speed.warm_up=1", "speed.new_tokens=2", "chart=none"]
    assert main(["speed", *settings, *quick]) == 0
    assert "budget=average is left out where it cannot act" in capsys.readouterr().err
    for command in ("show", "speed"):
        assert main([command, "method=cls", "ratio=0.5", "budget=average"]) == 2
        assert "budget=average: every decoder layer sees what cls keeps" in capsys.readouterr().err
