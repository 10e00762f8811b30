"""Names of files that begin with ~, and a home folder that is not there or cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmprune.cli import compare, show, speed
from vlmprune.cli.show import find_file, find_free_name
from vlmprune.config.arguments import parse
from vlmprune.config.settings import compose_run
from vlmprune.files import check_writable

NOT_A_HOME = {"HOME": "/proc/nobody", "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_every_setting_that_is_written_to_knows_the_home_folder(home):
    config = compose_run(["ratio=0.5", "outputs='~/out'", "features.folder='~/features'"])
    assert (config.outputs, config.features.folder) == (f"{home}/out", f"{home}/features")
    compared = parse(
        "compare", compare.Settings, ["outputs=~/out", "chart=~/c.png", "charts=~/charts", "html=~/r.html"]
    )
    assert {compared.outputs, compared.chart, compared.charts, compared.html} == {
        home / name for name in ("out", "c.png", "charts", "r.html")
    }
    measured = parse("speed", speed.Settings, ["json=~/s.json", "chart=~/s.png"])
    assert (measured.json, measured.chart) == (home / "s.json", home / "s.png")
    assert parse("show", show.Settings, ["file=~/shown.png"]).file == home / "shown.png"


def test_a_question_may_begin_with_a_tilde_and_be_long(home):
    for question in ("~9 or ~10 objects?", "~x=5?", "~", "what is it? " * 40, "what" * 100):
        assert find_file(question) is None
    assert parse("show", show.Settings, ["~x=5?"]).words == ("~x=5?",)
    (home / "my photo").write_bytes(b"")
    assert find_file("~/my photo") == home / "my photo"


def test_a_file_is_tried_and_left_as_it_was(tmp_path):
    check_writable("file", tmp_path / "new/folder/a.png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    (tmp_path / "b.png").write_bytes(b"before")
    check_writable("file", tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == b"before"


def test_a_picture_never_replaces_another(tmp_path):
    assert find_free_name(tmp_path / "a.png") == tmp_path / "a.png"
    for name in ("a.png", "a-2.png"):
        (tmp_path / name).write_bytes(b"before")
    assert find_free_name(tmp_path / "a.png") == tmp_path / "a-3.png"


def test_the_embedded_benchmark_needs_no_home_folder():
    code = "from vlmprune.tiny import load_test_split; print(load_test_split()[999]['image'].size)"
    done = subprocess.run([sys.executable, "-c", code], env=NOT_A_HOME, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(144, 144)\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [["run"], ["sweep", "baselines=false"], ["show"]], ids=" ".join)
def test_no_command_needs_a_home_folder(tmp_path, command):
    quick = [] if command == ["show"] else ["limit=2", "latency_samples=0"]
    line = [sys.executable, "-m", "vlmprune", *command, "method=cls", "ratio=0.5", *quick]
    done = subprocess.run(line, cwd=tmp_path, env=NOT_A_HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
