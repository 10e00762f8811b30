"""Process 0 with other processes that are played by threads: their answers are gathered, and their ends noticed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch

from tests.evaluation.test_run_directory import row
from vlmprune.benchmarks.base import Sample
from vlmprune.distributed.messages import Connection
from vlmprune.distributed.team import Process, Team
from vlmprune.errors import ProcessLost, UserError
from vlmprune.evaluation.run_directory import RunDirectory

Part = Callable[[Connection, dict, list[str]], None]  # what a process does with its job and its questions
SAMPLES = [Sample(str(number), f"image{number}", "?", "", "all") for number in range(9)]


@pytest.fixture
def plan(tmp_path):
    config = SimpleNamespace(overrides=("ratio=0.9",), config_dir=None, batch_size=4)
    directory = RunDirectory(tmp_path, "print")
    return SimpleNamespace(config=config, directory=directory, device=torch.device("cpu"), dtype=torch.float32)


def team_of(*parts: Part) -> Team:
    """A team whose members play `parts` once they were told to run and which questions are theirs."""

    def play(part: Part, line: Connection) -> None:
        message = line.receive()
        assert message is not None and message[0] == "run"
        line.send("ready")
        questions = line.receive()
        if questions is not None:
            with suppress(OSError):  # process 0 has hung up
                part(line, message[1], questions[1])
        line.close()

    members = []
    for rank, part in enumerate(parts, start=1):
        ours, theirs = socket.socketpair()
        threading.Thread(target=play, args=(part, Connection(theirs)), daemon=True).start()
        members.append(Process(rank, rank, Connection(ours)))
    return Team(members)


def answer_all(line: Connection, job: dict, questions: list[str]) -> None:
    for name in questions:
        line.send("answers", [[row(name)], []])
    line.send("done", 100.0 + len(questions))


def die(line: Connection, job: dict, questions: list[str]) -> None:
    line.send("answers", [[row(questions[0])], []])


def refuse(line: Connection, job: dict, questions: list[str]) -> None:
    line.send("refused", "sample 7: it is torn")


def fail(line: Connection, job: dict, questions: list[str]) -> None:
    line.send("failed", "ValueError: seven")


def run(team: Team, plan: SimpleNamespace, told: list[int]) -> None:
    """What vlmprune.run does with a team."""
    with team.start_run(plan):
        share = team.send_questions(SAMPLES, plan)
        with team.collect_rows(plan.directory, told.append) as (directory, advance):
            for sample in share:
                directory.append([row(sample.id)], [])
                advance(1)


def test_all_answers_come_together(plan):
    told: list[int] = []
    team = team_of(answer_all, answer_all)
    run(team, plan, told)
    assert sorted(row["id"] for row in plan.directory.predictions()) == [sample.id for sample in SAMPLES]
    assert sum(told) == 9
    assert team.peaks == [103.0, 103.0]
    assert not team.closed


def test_the_others_are_told_a_run_of_one_process_on_their_device(plan):
    jobs: list[dict] = []
    plan.device = torch.device("cuda")

    def note(line: Connection, job: dict, questions: list[str]) -> None:
        jobs.append(job)
        answer_all(line, job, questions)

    run(team_of(note), plan, [])
    overrides = ["ratio=0.9", "device=cuda:1", "devices=1"]
    assert jobs == [{"overrides": overrides, "config_dir": None, "fingerprint": "print"}]


def test_without_others_everything_is_done_here(plan):
    run(Team([]), plan, [])
    assert len(plan.directory.predictions()) == 9


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (die, ProcessLost, r"process 3 of 3 \(cpu\): died; .* every answer so far is kept"),
        (fail, ProcessLost, r"process 3 of 3 \(cpu\): ValueError: seven"),
        (refuse, UserError, "sample 7: it is torn"),
    ],
)
def test_what_goes_wrong_elsewhere_ends_the_run_and_keeps_the_answers(plan, part, error, message):
    team = team_of(answer_all, part)
    with pytest.raises(error, match=message):
        run(team, plan, [])
    assert team.closed
    assert "0" in {row["id"] for row in plan.directory.predictions()}  # this process's first


def test_what_goes_wrong_elsewhere_is_noticed_in_the_middle(plan):
    noticed = []
    team = team_of(die)
    with pytest.raises(ProcessLost), team.start_run(plan):
        share = team.send_questions(SAMPLES, plan)
        with team.collect_rows(plan.directory, lambda _: None) as (_, advance):
            for _ in range(1000):
                threading.Event().wait(0.01)
                advance(1)
            noticed.append(len(share))  # not reached
    assert noticed == []


def test_an_error_here_ends_the_others(plan):
    ended = threading.Event()

    def wait(line: Connection, job: dict, questions: list[str]) -> None:
        assert line.receive() is None
        ended.set()

    with pytest.raises(KeyboardInterrupt), (team := team_of(wait)).start_run(plan):
        team.send_questions(SAMPLES, plan)
        with team.collect_rows(plan.directory, lambda _: None):
            raise KeyboardInterrupt
    assert ended.wait(10)


def test_a_full_disk_here_is_told_though_another_process_sent_the_answer(plan, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    team = team_of(answer_all)
    with pytest.raises(OSError, match="No space left"), team.start_run(plan):
        team.send_questions(SAMPLES, plan)
        monkeypatch.setattr(RunDirectory, "append", full)
        with team.collect_rows(plan.directory, lambda _: None):
            pass
