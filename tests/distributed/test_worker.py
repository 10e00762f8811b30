"""What a process other than 0 does: one run after the other, telling process 0 how each went, until that is gone."""

from __future__ import annotations

import queue
import socket
import threading

import pytest

from vlmprune.distributed import worker
from vlmprune.distributed.messages import Connection
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import Resources


@pytest.fixture
def lines():
    """The worker's end and process 0's."""
    both = [Connection(connection) for connection in socket.socketpair()]
    yield both
    for line in both:
        line.close()


def test_it_does_one_run_after_the_other_and_ends_with_process_0(lines, monkeypatch):
    here, process_0 = lines
    monkeypatch.setattr(worker, "answer_share", lambda job, *_: float(job["number"]))
    told = []

    def ask() -> None:
        for number in (1, 2):
            process_0.send("run", {"number": number})
            told.append(process_0.receive())
        process_0.close()

    threading.Thread(target=ask).start()
    assert worker.serve(here) == 0
    assert told == [("done", 1.0), ("done", 2.0)]


def test_what_cannot_work_is_told_as_such(lines, monkeypatch):
    here, process_0 = lines

    def refuse(*_: object) -> float:
        raise UserError("sample 7: it is torn")

    monkeypatch.setattr(worker, "answer_share", refuse)
    process_0.send("run", {})
    assert worker.serve(here) == 2
    assert process_0.receive() == ("refused", "sample 7: it is torn")


def test_an_error_is_told_and_raised(lines, monkeypatch):
    here, process_0 = lines

    def fail(*_: object) -> float:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(worker, "answer_share", fail)
    process_0.send("run", {})
    with pytest.raises(ZeroDivisionError):
        worker.serve(here)
    assert process_0.receive() == ("failed", "ZeroDivisionError: division by zero, see its traceback")


def test_it_ends_at_once_when_process_0_dies_in_the_middle_of_a_run(lines, monkeypatch):
    here, process_0 = lines
    ended = threading.Event()
    codes = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    def work(*_: object) -> float:
        process_0.close()
        assert ended.wait(10)
        return 0.0

    monkeypatch.setattr(worker.os, "_exit", end)
    monkeypatch.setattr(worker, "answer_share", work)
    process_0.send("run", {})
    with pytest.raises(ConnectionError):
        worker.serve(here)
    assert codes == [1]


def test_another_checkout_or_dataset_is_refused(lines):
    job = {"overrides": ["ratio=0.9", "logger=none", "device=cpu"], "config_dir": None, "fingerprint": "another"}
    with pytest.raises(UserError, match="all processes need the same"):
        worker.answer_share(job, lines[0], queue.SimpleQueue(), Resources())
