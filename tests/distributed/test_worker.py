"""A process other than 0 answers one share after another, and reports how each ended."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.evaluation.test_run_directory import row
from vlmprune.distributed import worker
from vlmprune.distributed.worker import JOB, REPORT, Job
from vlmprune.errors import UserError
from vlmprune.evaluation.plan import Resources
from vlmprune.evaluation.run_directory import RunDirectory

OVERRIDES = ["ratio=0.9", "logger=none"]
WORK: Job = {"overrides": OVERRIDES, "config_dir": None, "fingerprint": "f", "device": "cpu", "questions": ["7"]}


@pytest.fixture
def share(tmp_path) -> RunDirectory:
    directory = RunDirectory(tmp_path, "f").share(1)
    with directory.lock():
        directory.write(JOB, json.dumps(WORK))
    return directory


def answer(job: Job, share: RunDirectory, *_: object) -> tuple[float, float]:
    share.append([row(name) for name in job["questions"]], [])
    return 2.0, 99.0


def serve(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> int:
    """The exit code after process 0 named these folders and ended."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(str(folder)) + "\n" for folder in folders)))
    return worker.main()


def final_report(share: RunDirectory) -> dict:
    return json.loads((share.path / REPORT).read_text())


def test_it_answers_one_share_after_the_other_and_ends_with_process_0(share, tmp_path, monkeypatch):
    second = RunDirectory(tmp_path / "another", "f").share(3)
    with second.lock():
        second.write(JOB, json.dumps(WORK | {"device": "cuda"}))
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(worker, "answer_questions", answer)
    assert serve(monkeypatch, share.path, second.path) == 0
    for directory, device in ((share, "cpu"), (second, "cuda:2")):
        assert final_report(directory) == {"device": device, "seconds": 2.0, "peak_mb": 99.0}
        assert [each["id"] for each in directory.predictions()] == ["7"]


@pytest.mark.parametrize(
    ("error", "report", "printed"),
    [  # a refusal is printed by process 0
        (UserError("sample 7: it is torn"), {"refused": "sample 7: it is torn"}, ""),
        (
            ZeroDivisionError("division\nby zero"),
            {"failed": "ZeroDivisionError: division by zero, see its traceback"},
            "Traceback",
        ),
    ],
)
def test_what_ends_a_share_is_reported(share, error, report, printed, monkeypatch, capfd):
    def fail(*_: object) -> tuple[float, float]:
        raise error

    monkeypatch.setattr(worker, "answer_questions", fail)
    assert serve(monkeypatch, share.path) == 0
    assert final_report(share) == {"device": "cpu"} | report
    told = capfd.readouterr().err
    assert printed in told and bool(told) == bool(printed)


def test_a_full_disk_is_one_line(share, monkeypatch, capfd):
    def full(*_: object) -> None:
        raise UserError("report.json cannot be written (No space left on device)")

    monkeypatch.setattr(RunDirectory, "write", full)
    assert serve(monkeypatch, share.path) == 2
    assert capfd.readouterr().err == "vlmprune: report.json cannot be written (No space left on device)\n"


def test_another_checkout_or_dataset_is_refused(share):
    with pytest.raises(UserError, match="all processes need the same"):
        worker.answer_questions(WORK | {"fingerprint": "another"}, share, "cpu", Resources())
