"""Jobs of a sweep: the words that become them, their order, the worker that gets each, the time that is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlmprune.config.overrides import drop_ineffective, expand_sweep, first_key
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import Resources
from vlmprune.launchers.base import Outcome, Task, Worker, WorkerLauncher
from vlmprune.results.sweep_record import SweepRecord
from vlmprune.sweep import plan_jobs
from vlmprune.sweep.execution import make_tasks
from vlmprune.sweep.inspection import check_jobs, sort_jobs
from vlmprune.sweep.progress import SweepProgress

COMMON = ["limit=4", "device=cpu", "logger=none"]


def test_jobs_that_share_a_model_stand_together():
    jobs = plan_jobs(["method=cls,uniform", "model.attention=sdpa,eager", "keep=9", *COMMON], None, baselines=False)
    assert [job.config.model.attention for job in jobs] == ["sdpa", "eager", "sdpa", "eager"]
    assert [job.config.model.attention for job in sort_jobs(jobs)] == ["sdpa", "sdpa", "eager", "eager"]
    assert [job.record.method for job in sort_jobs(jobs)] == ["cls", "uniform", "cls", "uniform"]


def test_one_run_in_two_spellings_is_one_job(tmp_path):
    settings = ["method=uniform", "ratio=0.5", "model.dtype=auto,float32", f"outputs={tmp_path}", *COMMON]
    jobs = plan_jobs(settings, None, baselines=False)
    assert len(jobs) == 2 and len(check_jobs(jobs, True, Resources())) == 1


class Instant(Worker):
    """Ends at once; dies of every task whose number is in `deadly`."""

    def __init__(self, deadly: set[int]) -> None:
        self.deadly, self.done, self.stopped = deadly, list[int](), False

    def begin(self, task: Task) -> None:
        self.done.append(task.number)

    def outcome(self) -> Outcome:
        return Outcome("failed", "died") if self.done[-1] in self.deadly else Outcome("done", "", 1.0, None, 2.0)

    def stop(self) -> None:
        self.stopped = True


class Crew(WorkerLauncher):
    def __init__(self, *deadly: int) -> None:
        self.crew: list[Worker] = [Instant(set(deadly)), Instant(set(deadly))]

    def hire(self, tasks, folder):
        return self.crew


def tasks_of(models: str) -> list[Task]:
    return [Task(number, [], None, "g", ".", model, "log") for number, model in enumerate(models, start=1)]


@pytest.fixture
def progress(tmp_path):
    jobs = plan_jobs(["method=uniform", "keep=1,2,3,4,5,6", *COMMON], None, baselines=False)
    for job in jobs:
        job.record.samples = 10
    record = SweepRecord("sweep-1", [], "inprocess", "", "", [job.record for job in jobs])
    return SweepProgress(jobs, record, tmp_path, False)


def test_a_worker_keeps_to_the_model_that_it_has(progress):
    crew = Crew()
    crew.run(tasks_of("AAABBB"), progress)
    assert [worker.done for worker in crew.crew] == [[1, 2, 3], [4, 5, 6]]


def test_whoever_is_free_takes_what_is_left(progress):
    crew = Crew()
    crew.run(tasks_of("AAAAAB"), progress)
    assert [worker.done for worker in crew.crew] == [[1, 2, 4], [6, 3, 5]]


def test_a_death_is_a_failure_of_one_job(progress):
    crew = Crew(2)
    crew.run(tasks_of("AAAAAA"), progress)
    assert progress.counts() == {"done": 5, "failed": 1}
    assert progress.jobs[1].record.reason == "died"
    assert all(worker.stopped for worker in crew.crew)


def test_fail_fast_stops_whoever_is_at_work(progress):
    progress.fail_fast, crew = True, Crew(1)
    crew.run(tasks_of("AAAAAA"), progress)
    assert all(worker.stopped for worker in crew.crew)
    assert progress.counts()["failed"] == 1 and progress.counts()["waiting"] >= 3


def test_a_worker_imports_no_library_before_the_environment_of_its_task_is_set():
    """HF_HOME and the like are read when the libraries are imported."""
    code = (
        "import sys; from vlmprune.launchers import ray, slurm, task; task.TaskRunner(), slurm.SlurmJob();"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'datasets') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_task_takes_along_how_threads_wait(progress, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    _, (task,) = make_tasks(plan_jobs(["method=uniform", "ratio=0.5"], None, baselines=False), progress)
    assert task.environment[name] == "7"


def test_the_time_left_is_that_of_the_open_questions(progress):
    assert progress.time_left() is None
    progress.started(1)
    progress.ended(1, Outcome("done", "", 0.5, None, 20.0))
    assert progress.time_left() == 100.0  # 2 s a question, 5 x 10 questions
    progress.started(2)
    progress.started(3)
    assert progress.time_left() == 50.0  # two at a time
    assert progress.status_line() == "1 done, 2 running, 3 left, about 50 s"


def test_trouble_with_the_disk_is_said_once_and_stops_nothing(progress, capsys, tmp_path):
    progress.outputs = Path("/proc/nowhere")
    progress.started(1)
    progress.ended(1, Outcome("done", "", 1.0, None, 1.0))
    assert capsys.readouterr().err.count("state cannot be written") == 1


def titles(*settings: str) -> list[str]:
    return [job.title for job in plan_jobs(list(settings), None)]


def test_there_is_one_unpruned_run():
    """Whatever the others vary that means nothing to it."""
    found = titles("method=none,fastv", "positions=renumber,keep", "ratio=0.5", "method.k=3")
    assert found == [
        "method=none",
        "method=random positions=renumber ratio=0.5",
        "method=random positions=keep ratio=0.5",
        "method=fastv positions=renumber ratio=0.5 method.k=3",
        "method=fastv positions=keep ratio=0.5 method.k=3",
    ]


def test_a_range_has_the_numbers_that_one_would_type():
    assert expand_sweep(["ratio=range(0.1,0.5,0.2)"]) == [["ratio=0.1"], ["ratio=0.3"]]
    assert expand_sweep(["seed=range(0,3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]


def test_a_choice_without_settings_says_so():
    said = r"'method.k' is not a setting of method=uniform, but of fastv, scm; it has no settings"
    with pytest.raises(UserError, match=said):
        plan_jobs(["method=uniform", "method.k=3", "ratio=0.5"], None)


def test_words():
    assert [first_key(override) for override in ("method=cls", "+method.k=3", "ratio=0.5")] == ["method"] * 2 + [
        "ratio"
    ]
    typed = ["limit=4", "method=none", "keep=9", "+method.k=3", "scope=tile", "budget=average", "seed=1"]
    assert drop_ineffective(typed) == ["method=none", "limit=4", "seed=1"]
    assert drop_ineffective(["method=cls", "keep=9"]) == ["method=cls", "keep=9"]
