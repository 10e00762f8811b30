"""Going online: the upload of a run under way, to a server that takes it, fails, hangs or is not there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.loggers.stand_in import stand_in
from tests.loggers.test_wandb import CONFIG, FINGERPRINT, mirror, placed
from tests.results.synthetic import make_run, picture
from vlmprune.loggers import wandb_upload
from vlmprune.loggers.wandb import WandbLogger
from vlmprune.loggers.wandb_account import outputs_identity, run_identity
from vlmprune.loggers.wandb_upload import Uploads

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def mirrored(outputs: Path, uploads: Uploads) -> WandbLogger:
    """A finished run with a picture of its second question, as the logger has mirrored it."""
    logger = placed(WandbLogger(samples=4), outputs)
    (logger.directory / "pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save(logger.directory / "pictures/1-q1.png")
    (logger.directory / "pictures/index.json").write_text(json.dumps([picture("q1", "1-q1.png")]))
    logger.set_uploads(uploads)
    mirror(logger, group="sweep-1")
    return logger


def test_a_server_gets_all_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        uploads = Uploads()
        logger = mirrored(tmp_path, uploads)
        assert logger.line is not None and logger.line.startswith("live run ")
        uploads.report(60)
    assert f"W&B    {server.url}/team/vlmprune/runs/" in capfd.readouterr().err
    first, *_ = server.sent("UpsertBucket")
    assert first["name"] == run_identity(FINGERPRINT, outputs_identity(tmp_path))
    assert (first["project"], first["groupName"], first["jobType"]) == ("vlmprune", "sweep-1", "fastv")
    assert json.loads(first["config"])["method"]["value"]["k"] == 2
    summary = server.summary()
    for name in ("score", "relative_score", "ratio", "flops/total", "latency/pruned/prefill_ms", "memory/peak_mb"):
        assert isinstance(summary[name], int | float), name
    assert server.stream[-1]["exitcode"] == 0
    (table,) = [json.loads(data) for name, data in server.files.items() if name.endswith(".table.json")]
    assert [row[0] for row in table["data"]][:1] == ["q1"] and len(table["data"]) == 4  # pictures come first
    assert [row[-1] for row in table["data"]] == ["Image", None, None, None]
    (shown,) = summary["pictures"]["filenames"]
    assert server.files[shown] == (logger.directory / "pictures/1-q1.png").read_bytes()
    assert not list(Path.cwd().iterdir())
    assert any(server.secrets)  # the key went to the server, as a header, and nowhere else
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written and not any(KEY.encode() in file.read_bytes() for file in written)


@pytest.mark.slow
def test_a_run_is_seen_while_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger, uploads, end = placed(WandbLogger(), tmp_path), Uploads(), time.monotonic() + 240
        logger.set_uploads(uploads)
        logger.start(CONFIG, FINGERPRINT, None)
        questions = 0

        def is_seen() -> bool:
            measures = [each for each in server.stream if "wandb-events.jsonl" in each.get("files", {})]
            return "running/score" in server.summary() and "system.cpu" in json.dumps(measures)

        while not is_seen() and time.monotonic() < end:
            questions += 32
            logger.log_progress({"questions": questions, "score": 0.5})
            time.sleep(1)
        assert is_seen() and server.summary()["running/score"] == 0.5  # W&B writes to the disk every 15 seconds
        assert not any("exitcode" in each for each in server.stream)
        logger.log_progress({"questions": questions, "score": 0.5})
        live = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B    live at ")]
        assert len(live) == 1 and live[0].startswith(f"W&B    live at {server.url}/team/vlmprune/runs/")
        logger.finish(0)
        uploads.report(60)
        assert server.summary()["running/questions"] == questions and server.stream[-1]["exitcode"] == 0
    assert not any(folder.name in ("cache", "artifacts") for folder in (logger.directory / "wandb").iterdir())


@pytest.mark.parametrize(("said", "seconds"), [("", 2), ("end", 4)])
def test_the_upload_ends_a_while_after_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], said: str, seconds: int
) -> None:
    """A run that was killed has no end in W&B's file, for which W&B's own command waits for ever."""
    logger = placed(WandbLogger(mode="offline"), tmp_path)
    logger.start(CONFIG, FINGERPRINT, None)
    (folder,) = logger.directory.glob("wandb/offline-run-*")
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))  # closed without a word if vlmprune was killed
    monkeypatch.setattr(wandb_upload, "BROKEN_SECONDS", 2.0)
    monkeypatch.setattr(wandb_upload, "UPLOAD_SECONDS", 4.0)
    with stand_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert wandb_upload.main(str(folder)) == wandb_upload.FAILED
    assert f"gave up {seconds} s after the end of the run" in capfd.readouterr().out
    logger.finish(1)


def test_a_refused_run_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its folder is removed, since it has nothing to resume from, and the upload with it."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    logger, uploads = placed(WandbLogger(), tmp_path), Uploads()
    logger.set_uploads(uploads)
    logger.start(CONFIG, FINGERPRINT, None)
    logger.finish(1)
    (upload,) = uploads.started
    shutil.rmtree(logger.directory)
    uploads.report(10)
    assert capfd.readouterr() == ("", "")
    upload.process.wait(60)


@pytest.mark.parametrize("mode", ["fails", pytest.param("hangs", marks=pytest.mark.slow)])
def test_a_server_out_of_order_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    with stand_in(mode) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        uploads = Uploads()
        mirrored(tmp_path, uploads)
        uploads.report(60)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "W&B did not take 1 run" in err
    assert "wandb sync" in err and f"{server.url} does not answer" in next(tmp_path.rglob("upload.log")).read_text()


def test_a_sweep_without_network_asks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
    uploads, lines = Uploads(), []
    for fingerprint in ("11" * 32, "22" * 32):
        logger = placed(WandbLogger(), tmp_path / fingerprint[:2])
        logger.set_uploads(uploads)
        mirror(logger, fingerprint, "sweep-1")
        lines.append(str(logger.line))
        for upload in uploads.started:
            upload.process.wait(60)
    assert "live run" in lines[0] and "offline run" in lines[1]
    assert len(uploads.started) == 1
    uploads.report(1)
    assert "W&B did not take 1 run" in capfd.readouterr().err


def test_the_whole_sweep_is_synced_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = placed(WandbLogger(mode="offline"), tmp_path)
    directories = []
    for ratio, fingerprint in ((0.25, "11" * 32), (0.5, "22" * 32)):
        directories.append(make_run(tmp_path, "fastv", ratio))
        logger.place(directories[-1], tmp_path)
        mirror(logger, fingerprint, "sweep-1")
    command = wandb_upload.sync_command(directories)
    assert command == f"wandb sync {tmp_path}/scenes/tiny/*/wandb/offline-run-*"
    assert wandb_upload.sync_command([tmp_path]) is None
    with stand_in() as server:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        shell = {name: value for name, value in os.environ.items() if name != wandb_upload.SERVICE}  # of this process
        done = subprocess.run(
            command, shell=True, env=shell | {"WANDB_BASE_URL": server.url, "PATH": paths}, capture_output=True
        )
    assert done.returncode == 0, done.stderr
    folder = outputs_identity(tmp_path)
    uploaded = {sent["name"] for sent in server.sent("UpsertBucket")}
    assert uploaded == {run_identity(fingerprint, folder) for fingerprint in ("11" * 32, "22" * 32)}
