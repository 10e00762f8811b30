"""Which jobs a sweep has, in which order they go to whom, and how long they will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmprune.launchers.base import Outcome, Task, Worker, WorkerLauncher
from vlmprune.results.sweep_record import SweepRecord
from vlmprune.sweep import plan_jobs
from vlmprune.sweep.inspection import examine, in_order
from vlmprune.sweep.progress import Board, duration

COMMON = ["limit=4", "device=cpu", "logger=none"]


def board_of(jobs, fail_fast=False, outputs="nowhere"):
    record = SweepRecord("sweep-1", [], "inprocess", "", "", [job.record for job in jobs])
    return Board(jobs, record, Path(outputs), fail_fast)


def test_jobs_that_share_a_model_stand_together():
    jobs = plan_jobs(["method=cls,uniform", "model.attention=sdpa,eager", "keep=9", *COMMON], None, baselines=False)
    assert [job.config.model.attention for job in jobs] == ["sdpa", "eager", "sdpa", "eager"]
    assert [job.config.model.attention for job in in_order(jobs)] == ["sdpa", "sdpa", "eager", "eager"]
    assert [job.record.method for job in in_order(jobs)] == ["cls", "uniform", "cls", "uniform"]


def test_one_run_in_two_spellings_is_one_job(tmp_path):
    settings = ["method=uniform", "ratio=0.5", "model.dtype=auto,float32", f"outputs={tmp_path}", *COMMON]
    jobs = plan_jobs(settings, None, baselines=False)
    assert len(jobs) == 2 and len(examine(jobs, here=True)) == 1


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
def board(tmp_path):
    jobs = plan_jobs(["method=uniform", "keep=1,2,3,4,5,6", *COMMON], None, baselines=False)
    for job in jobs:
        job.record.samples = 10
    return board_of(jobs, outputs=tmp_path)


def test_a_worker_keeps_to_the_model_that_it_has(board):
    crew = Crew()
    crew.run(tasks_of("AAABBB"), board)
    assert [worker.done for worker in crew.crew] == [[1, 2, 3], [4, 5, 6]]


def test_whoever_is_free_takes_what_is_left(board):
    crew = Crew()
    crew.run(tasks_of("AAAAAB"), board)
    assert [worker.done for worker in crew.crew] == [[1, 2, 4], [6, 3, 5]]


def test_a_death_is_a_failure_of_one_job(board):
    crew = Crew(2)
    crew.run(tasks_of("AAAAAA"), board)
    assert board.counts() == {"done": 5, "failed": 1}
    assert board.jobs[1].record.reason == "died"
    assert all(worker.stopped for worker in crew.crew)


def test_fail_fast_stops_whoever_is_at_work(board):
    board.fail_fast, crew = True, Crew(1)
    crew.run(tasks_of("AAAAAA"), board)
    assert all(worker.stopped for worker in crew.crew)
    assert board.counts()["failed"] == 1 and board.counts()["waiting"] >= 3


def test_the_time_left_is_that_of_the_open_questions(board):
    assert board.time_left() is None
    board.started(1)
    board.ended(1, Outcome("done", "", 0.5, None, 20.0))
    assert board.time_left() == 100.0  # 2 s a question, 5 x 10 questions
    board.started(2)
    board.started(3)
    assert board.time_left() == 50.0  # two at a time
    assert board.state() == "1 done, 2 running, 3 left, about 50 s"


def test_durations():
    assert [duration(s) for s in (0.44, 45, 200, 9000)] == ["0.4 s", "45 s", "3.3 min", "2.5 h"]


def test_trouble_with_the_disk_is_said_once_and_stops_nothing(board, capsys, tmp_path):
    board.outputs = Path("/proc/nowhere")
    board.started(1)
    board.ended(1, Outcome("done", "", 1.0, None, 1.0))
    assert capsys.readouterr().err.count("state cannot be written") == 1
