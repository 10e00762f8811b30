"""What the processes say to each other, and that process 0 writes it once and whole."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.evaluation.test_run_directory import row
from vlmprune.distributed.messages import Connection, MergedRunDirectory, RemoteRunDirectory
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory


@pytest.fixture
def ends():
    """The two ends of a connection."""
    first, second = (Connection(connection) for connection in socket.socketpair())
    yield first, second
    first.close()
    second.close()


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_messages_arrive_as_they_were_sent(ends):
    here, there = ends
    content = {"text": "two\nlines, 図, \ud800", "score": 0.1 + 0.2, "none": None, "list": [1, [2, 3]]}
    here.send("first", content)
    here.send("second")
    assert there.receive() == ("first", content)
    assert there.receive() == ("second", None)


def test_half_a_message_of_a_process_that_died_is_none():
    ours, theirs = socket.socketpair()
    line = Connection(ours)
    theirs.sendall(b'["answers", [{"id"')
    theirs.close()
    assert line.receive() is None
    with pytest.raises(OSError):
        line.send("late")


def test_hanging_up_ends_the_waiting_of_both_sides(ends):
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(end.receive) for end in ends]
        ends[0].close()
        assert [each.result(timeout=10) for each in waiting] == [None, None]


def test_rows_reach_the_files_of_process_0_as_its_own_would(ends, tmp_path):
    here, there = ends
    own, other = [RunDirectory(tmp_path / name, "f") for name in ("own", "other")]
    for directory in (own, other):
        directory.path.mkdir()
    predictions = [{"id": "1", "image_id": "a", "prediction": "é", "score": 1 / 3, "visual": [(0, 14)]}]
    kept = [{"image_id": "a", "n": 4, "kept": "9"}]
    own.append(predictions, kept)
    own.append_bad([{"id": "2", "reason": "torn"}])

    sent = RemoteRunDirectory(other, there)
    sent.append(predictions, kept)
    sent.append_bad([{"id": "2", "reason": "torn"}])
    sent.append_bad([])
    there.close()
    told: list[int] = []
    gathered = MergedRunDirectory(other, told.append)
    while (message := here.receive()) is not None:
        gathered.receive(*message)
    for name in ("predictions.jsonl", "kept.jsonl", "bad.jsonl"):
        assert (other.path / name).read_bytes() == (own.path / name).read_bytes()
    assert told == [1, 1]


def test_kept_tokens_of_an_image_are_written_once(tmp_path):
    directory = RunDirectory(tmp_path, "f")
    directory.append([], [{"image_id": "before", "n": 4, "kept": "9"}])  # by a run that was killed
    gathered = MergedRunDirectory(directory, lambda _: None)
    for number, image in enumerate(("before", "a", "a", "b")):
        gathered.append([row(str(number))], [{"image_id": image, "n": 4, "kept": "9"}])
    gathered.append([], [{"id": "q", "n": 4, "kept": "9"}])
    assert [row.get("id") or row["image_id"] for row in directory.kept()] == ["before", "a", "b", "q"]
    assert len(directory.predictions()) == 4


def test_nothing_is_written_behind_a_line_that_is_cut_short(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path, "f")
    gathered = MergedRunDirectory(directory, lambda _: None)

    def cut_short(self: RunDirectory, predictions: list[dict], kept: list[dict]) -> None:
        (self.path / "predictions.jsonl").write_text('{"id": "1')
        raise UserError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "append", cut_short)
        with pytest.raises(UserError):
            gathered.append([{"id": "1"}], [])
    for write in (gathered.append_bad, lambda rows: gathered.append(rows, [])):  # there is room again
        with pytest.raises(UserError, match="the disk is full"):
            write([{"id": "2"}])
    assert (tmp_path / "predictions.jsonl").read_text() == '{"id": "1'


def test_rows_from_several_threads_stay_whole(tmp_path):
    gathered = MergedRunDirectory(RunDirectory(tmp_path, "f"), lambda _: None)
    start = threading.Barrier(4)

    def write(thread: int) -> None:
        start.wait()
        for number in range(20):
            gathered.append(
                [{"id": f"{thread}-{number}", "prediction": "x" * 3000}], [{"image_id": "same", "kept": "9"}]
            )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    rows = lines(tmp_path / "predictions.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == 80
    assert len(lines(tmp_path / "kept.jsonl")) == 1
