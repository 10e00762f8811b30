"""A full disk at every single write, a read-only folder: one clear line, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.robustness.faults import Disk
from tests.robustness.left import left
from vlmprune.errors import UserError

FILES = (
    "config.yaml",
    "environment.json",
    "kept.jsonl",
    "predictions.jsonl",
    "index.json",
    "vizwiz_submission.json",
    "result.json",
)


def fill_up(go, calm, outputs: Path, writes: list[str], number: int) -> None:
    """Let the disk be full from one write on, then make room; the run must end as if nothing had happened."""
    outputs.parent.mkdir()
    where = f"full at write {number} of {len(writes)}, {writes[number]}"
    with Disk(outputs, full_at=number) as disk, pytest.raises(UserError) as caught:
        go(outputs)
    assert disk.points == writes[: number + 1], where
    line = str(caught.value)
    assert "No space left on device" in line and str(outputs) in line and "\n" not in line, f"{where}: {line}"
    assert not list(outputs.rglob("result.json")), where
    go(outputs)
    assert left(outputs) == calm, f"{where}: another outcome once there was room"


@pytest.fixture
def writes(go, tmp_path: Path) -> list[str]:
    """All writes of the small run, in order."""
    outputs = tmp_path / "counted" / "outputs"
    outputs.parent.mkdir()
    with Disk(outputs) as disk:
        go(outputs)
    written = {point.partition(" ")[2] for point in disk.points if point.startswith("write")}
    assert written >= {*FILES} and any(name.endswith(".png") for name in written), written
    return disk.points


@pytest.mark.slow
def test_a_disk_that_is_full_at_every_single_write(go, calm, writes, tmp_path):
    for number in range(len(writes)):
        fill_up(go, calm, tmp_path / str(number) / "outputs", writes, number)
    assert len(writes) >= 25, f"only {len(writes)} writes: {writes}"


def test_pictures_that_cannot_be_written_cost_a_line_and_are_made_by_the_next_call(
    go, calm, tmp_path, monkeypatch, capsys
):
    from vlmprune.evaluation.plan import Resources
    from vlmprune.pictures import pages as pictures

    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(pictures, "write_atomically", full)
        go(tmp_path)
    assert "pictures of kept tokens could not be saved" in capsys.readouterr().err
    (found,), (expected,) = left(tmp_path).values(), calm.values()
    assert found | {"pictures": expected["pictures"]} == expected
    resources = Resources()
    go(tmp_path, resources=resources)
    assert "already finished" in capsys.readouterr().err
    assert resources.model is None, "a model was loaded for them"
    assert left(tmp_path) == calm
    (index,) = tmp_path.rglob("index.json")
    before = index.stat().st_mtime_ns
    go(tmp_path)
    assert index.stat().st_mtime_ns == before


def test_a_finished_run_whose_records_are_damaged_is_shown_without_pictures(go, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (index,) = tmp_path.rglob("index.json")
    shutil.rmtree(index.parent)
    kept = index.parent.parent / "kept.jsonl"
    whole = kept.read_text()
    for content, said in ((whole.replace('"n": ', '"n": 4'), "has not n="), ("7\n", "line 1 is no record of kept")):
        kept.write_text(content)
        go(tmp_path)
        shown = capsys.readouterr()
        assert said in shown.err and "visual tokens" in shown.out, f"{shown.err}"


Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount something for the time of a test, where that is permitted."""
    mounted: list[Path] = []

    def make(folder: Path, *options: str) -> Path:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_real_disk_that_is_full(go, calm, mount, tmp_path):
    full = 0
    for pages in range(1, 8):
        disk = mount(tmp_path / f"disk{pages}", "-t", "tmpfs", "-o", f"size={pages * 4096}", "tmpfs")
        try:
            go(disk / "outputs")
        except UserError as error:
            full += 1
            assert "No space left on device" in str(error), f"{pages} pages: {error}"
        subprocess.run(["mount", "-o", "remount,size=1M", str(disk)], check=True)
        if not list(disk.rglob("result.json")):
            go(disk / "outputs")
        found = left(disk / "outputs")
        for run in found.values():  # a run that had room for all but its pictures is done without them
            run["pictures"] = next(iter(calm.values()))["pictures"]
        assert found == calm, f"{pages} pages: another outcome once there was room"
    assert full >= 3, f"{full} of 7 disks were too small"


def test_a_read_only_folder(go, calm, mount, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    mount(outputs, "--bind", str(outputs))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(outputs)], check=True)
    with pytest.raises(UserError, match=f"outputs folder {outputs}.* cannot be used: .*Read-only file system"):
        go(outputs)
    assert not list(outputs.iterdir())
    subprocess.run(["mount", "-o", "remount,rw,bind", str(outputs)], check=True)
    go(outputs)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(outputs)], check=True)
    capsys.readouterr()
    go(outputs)  # a finished run is shown, which needs no writing
    assert "already finished" in capsys.readouterr().err
    assert left(outputs) == calm
