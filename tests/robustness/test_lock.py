"""The lock of a run directory: where the file system has none it is a file that one process alone can create."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.robustness.left import left, run_folders
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import HOLDER, LOCK, hold_folder

NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]
PAIRS = 6
COMMON = ("ratio=0.9", "method=cls", "batch_size=2", "latency_samples=0", "show.samples=0", "logger=none", "limit=6")
BUSY = "is in use by another vlmprune process: wait for it to end"
HOLD = """
import errno, fcntl, os, pathlib, sys, time
def refuse(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
from vlmprune.errors import Terminated
from vlmprune.evaluation.run_directory import hold_folder
import signal
def stop(number, _): raise Terminated(number)
signal.signal(signal.SIGTERM, stop)
with hold_folder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def refuse_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the file system's lock fail with this error."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flock(monkeypatch, errno.ENOLCK)


def write_holder(folder: Path, **changed: object) -> None:
    whole = {"host": socket.gethostname(), "pid": os.getpid(), "started": 1} | changed
    (folder / HOLDER).write_text(json.dumps(whole))


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_flock_it_goes_on_with_one_warning(number, tmp_path, monkeypatch, capsys):
    refuse_flock(monkeypatch, number)
    with hold_folder(tmp_path):
        assert (tmp_path / HOLDER).exists()
        with pytest.raises(UserError, match="in use by another vlmprune process"), hold_folder(tmp_path):
            pass
        assert (tmp_path / HOLDER).exists(), "who is refused removes nothing"
    assert not (tmp_path / HOLDER).exists()
    assert capsys.readouterr().err.splitlines()[0].startswith(f"warning: {tmp_path} has no file locks")


def test_another_fault_of_flock_is_none_of_these(tmp_path, monkeypatch):
    refuse_flock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), hold_folder(tmp_path):
        pass


def test_the_lock_is_released_by_an_exception(tmp_path, no_flock):
    with pytest.raises(KeyboardInterrupt), hold_folder(tmp_path):
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("gone", [{"pid": 2**22 + 1}, {"started": 1}], ids=["no such process", "another with its pid"])
def test_what_a_killed_process_left_is_taken_over(gone, tmp_path, no_flock):
    write_holder(tmp_path, **gone)
    with hold_folder(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert [file.name for file in tmp_path.iterdir()] == [LOCK]


def test_another_machines_is_told_and_left(tmp_path, no_flock):
    write_holder(tmp_path, host="elsewhere", pid=7)
    with pytest.raises(UserError, match=f"process 7 on elsewhere.*remove {tmp_path}/{HOLDER}"), hold_folder(tmp_path):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOCK, HOLDER]


@pytest.mark.parametrize(
    "text", ["", "null", "{}", '{"host": 5, "pid": 1, "started": 1}', '{"pid": 1e999}', "[" * 9000]
)
def test_a_file_that_says_nothing_is_told_and_left(text, tmp_path, no_flock):
    (tmp_path / HOLDER).write_text(text)
    with pytest.raises(UserError, match=f"{HOLDER} does not say who has"), hold_folder(tmp_path):
        pass
    assert (tmp_path / HOLDER).read_text() == text


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda file: file.symlink_to("/dev/full")])
def test_what_is_no_file_is_no_lock(make, tmp_path):
    make(tmp_path / LOCK)
    with pytest.raises(OSError, match=LOCK), hold_folder(tmp_path):
        pass


def test_who_is_refused_writes_nothing(go, finished, calm, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (folder,) = run_folders(tmp_path)
    (folder / "result.json").unlink()
    before = (folder / "config.yaml").stat().st_mtime_ns
    with hold_folder(folder), pytest.raises(UserError, match="in use by another vlmprune process"):
        go(tmp_path)
    assert (folder / "config.yaml").stat().st_mtime_ns == before
    go(tmp_path)
    assert left(tmp_path) == calm


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_has_it_ends(number, tmp_path, no_flock):
    """One has it, this one is refused; however the first ends, this one has it at once."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="in use by another"), hold_folder(tmp_path):
        pass
    process.send_signal(number)
    process.wait(20)
    process.stdout.close()
    assert (tmp_path / HOLDER).exists() == (number == signal.SIGKILL)
    begun = time.monotonic()
    with hold_folder(tmp_path):
        assert time.monotonic() - begun < 5
    assert not (tmp_path / HOLDER).exists()


@pytest.mark.slow
def test_two_runs_in_one_directory(victims, tmp_path):
    server, arguments = victims[0], ("run", *COMMON)
    assert server.run(tmp_path / "calm", *arguments).code == 0
    expected, codes = left(tmp_path / "calm"), Counter[tuple[int, ...]]()
    for pair in range(PAIRS):
        folder = tmp_path / str(pair)
        both = [server.end(pid) for pid in [server.start(folder, *arguments) for _ in range(2)]]
        codes[tuple(sorted(ended.code for ended in both))] += 1
        assert sum(BUSY in ended.errors for ended in both) == sum(ended.code == 2 for ended in both), both
        assert left(folder) == expected, f"pair {pair}: another outcome"
        assert server.run(folder, *arguments).code == 0, "the lock was not released"
    assert codes == {(0, 2): PAIRS}, f"exit codes of {PAIRS} pairs: {dict(codes)}"


@pytest.mark.slow
def test_two_sweeps_over_the_same_jobs(victims, tmp_path):
    server, arguments = victims[0], ("sweep", *COMMON)
    assert server.run(tmp_path / "calm", *arguments).code == 0
    expected, refused = left(tmp_path / "calm"), 0
    for pair in range(PAIRS // 2):
        folder = tmp_path / str(pair)
        both = [server.end(pid) for pid in [server.start(folder, *arguments) for _ in range(2)]]
        assert {ended.code for ended in both} <= {0, 1}, both
        failed = [line for ended in both for line in ended.errors.splitlines() if "FAILED" in line]
        assert all(BUSY in line for line in failed), failed
        assert any(ended.code == 1 for ended in both) == bool(failed), both
        refused += len(failed)
        assert left(folder) == expected, f"pair {pair}: another outcome"
        assert server.run(folder, *arguments).code == 0, "the same sweep again is not done"
    assert refused >= 1, f"{PAIRS // 2} pairs of sweeps never met in a directory"
