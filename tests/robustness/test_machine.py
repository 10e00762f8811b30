"""Memory, threads, disks and descriptors that cannot be had: one line, exit code 2, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os

import pytest

from tests.robustness.left import left, progress
from tests.robustness.victims import shell
from vlmprune import cli
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.launchers.task import run_task
from vlmprune.machine import resource_message

RUN = ("run", "method=none", "limit=2", "latency_samples=0", "show.samples=0", "logger=none", "outputs=outputs")
MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 8.00 GiB for an array"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
]
DISK = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG]
OURS = [RuntimeError("a bug"), OSError("a bug"), ImportError("no module"), FileNotFoundError(errno.ENOENT, "gone")]


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raise_it(argument: str) -> None:
        raise error

    monkeypatch.setattr(cli, "check_length", raise_it)


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_memory_is_one_line(error, monkeypatch, capsys):
    fail(monkeypatch, error)
    assert cli.main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vlmprune: out of memory") and "batch_size" in line and "the same command resumes" in line


@pytest.mark.parametrize("number", DISK, ids=errno.errorcode.get)
def test_a_disk_is_one_line(number, monkeypatch, capsys):
    fail(monkeypatch, OSError(number, os.strerror(number), "some/file"))
    assert cli.main(["run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vlmprune: some/file: {os.strerror(number)}; ")


@pytest.mark.parametrize("error", OURS, ids=str)
def test_a_fault_of_ours_keeps_its_traceback(error, monkeypatch):
    fail(monkeypatch, error)
    with pytest.raises(type(error), match=str(error.args[-1])):
        cli.main(["run"])
    assert resource_message(error) is None


def test_what_it_came_from_is_looked_at(monkeypatch, capsys):
    wrapped = RuntimeError("the library's own words")
    wrapped.__cause__ = MemoryError()
    fail(monkeypatch, wrapped)
    assert cli.main(["run"]) == 2 and "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_the_traceback_is_shown_when_asked_for(value, shown, monkeypatch, capsys):
    monkeypatch.setenv("VLMPRUNE_TRACEBACK", value)
    error = UserError("model.path=x: cannot be loaded")
    error.__cause__ = KeyError("what the library said")
    fail(monkeypatch, error)
    assert cli.main(["run"]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last == "vlmprune: model.path=x: cannot be loaded"
    assert ("KeyError: 'what the library said'" in before) == bool(before) == shown


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [600_000, 800_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000])
def test_a_limit_of_memory(kilobytes, tmp_path):
    """NumPy's OpenBLAS asks for ever at 0.8 GB, and others crash in C: it is told before they are imported."""
    done = shell(tmp_path, f"ulimit -v {kilobytes}; vlmprune {' '.join(RUN)}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("vlmprune: too little memory: a limit (ulimit -v)")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_small_commands_need_little(tmp_path):
    done = shell(tmp_path, "ulimit -v 600000; vlmprune list methods; vlmprune --help")
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 40, 64])
def test_few_open_files(count, tmp_path):
    done = shell(tmp_path, f"ulimit -n {count}; vlmprune {' '.join(RUN)}")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    assert shell(tmp_path, f"vlmprune {' '.join(RUN)}").returncode == 0
    (file,) = tmp_path.rglob("result.json")
    assert json.loads(file.read_text())["answers"]["samples"] == 2


@pytest.mark.parametrize(
    "error", [MEMORY[5], *(pytest.param(error, marks=pytest.mark.slow) for error in (MEMORY[0], MEMORY[3]))], ids=str
)
def test_memory_that_ends_a_run_loses_nothing(error, small, calm, tmp_path, monkeypatch, capsys):
    """From the second batch on there is none, in this process."""
    append, batches = RunDirectory.append, []

    def failing(self, predictions, kept):
        batches.append(len(predictions))
        if len(batches) > 1:
            raise error
        append(self, predictions, kept)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "append", failing)
        assert cli.main(["run", *small, f"outputs={tmp_path}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "out of memory" in last and "the same command resumes" in last, last
    assert not list(tmp_path.rglob("result.json")) and progress(tmp_path, 8).answered == 4
    assert cli.main(["run", *small, f"outputs={tmp_path}"]) == 0
    assert left(tmp_path) == calm


ODD = {
    "no home": {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere/cache", "HF_HOME": "/proc/nowhere/hf"},
    "a file for a home": {"HOME": "/dev/null", "HF_HOME": "/dev/null", "HF_DATASETS_CACHE": "/dev/null/cache"},
    "matplotlib": {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": "/dev/null/matplotlib"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_odd_surroundings(name, tmp_path):
    """A run with pictures, and a comparison with charts."""
    set_up = " ".join(f"{key}={value}" for key, value in ODD[name].items())
    run = " ".join(RUN).replace("logger=none", "").replace("show.samples=0", "show.samples=1")
    for line in (f"export {set_up}; vlmprune {run}", f"export {set_up}; vlmprune compare chart=a.png html=a.html"):
        done = shell(tmp_path, line)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "a.png").exists() and len(list(tmp_path.rglob("pictures/*.png"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["--help", "list methods", "compare", " ".join(RUN)])
def test_a_deleted_working_directory(command, tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(tmp_path, f"cd gone; rmdir ../gone; vlmprune {command}")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (0 if command == "--help" else 2), done.stderr


def test_the_reason_of_a_job_that_lacked_memory(monkeypatch, tmp_path):
    import io

    from vlmprune.evaluation.plan import Resources
    from vlmprune.launchers import task as tasks
    from vlmprune.launchers.base import Task

    def fail_to_compose(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tasks, "compose_run", fail_to_compose)
    log = io.StringIO()
    outcome = run_task(Task(0, [], None, "g", str(tmp_path), "m", str(tmp_path / "log")), log, Resources())
    assert outcome.status == "failed" and outcome.reason.startswith("out of memory")
    assert "Traceback" in log.getvalue()
