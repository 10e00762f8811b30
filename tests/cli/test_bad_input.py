"""Bad input: exit code 2, one line that names the value, what is allowed and the nearest match, nothing written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.bad_inputs import CASES, write_files
from tests.cli.refusal import refusal
from vlmprune import cli
from vlmprune.errors import LONGEST

WHOLE = [  # through a process of their own: what stands on stderr, and the exit code; quick ones, without torch
    ["runn"],
    ["run", "method=clss"],
    ["run", "ratio=abc"],
    ["run", "--config-dir", "configs", "method=unclosed"],
    ["run", "method=a\nb"],
    ["compare", "nowhere"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the files that cases name. What --config-dir adds to the import path goes again."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def name_of(case: tuple[list[str], str, str]) -> str:
    return ascii(" ".join(case[0]))[:80]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_one_clear_line(folder, case):
    arguments, value, hint = case
    before = files(folder)
    line = refusal(*arguments)
    assert line.isprintable() and len(line) <= LONGEST + len(" ... ")
    assert value in line and hint.lower() in line.lower()
    assert {path for path in files(folder) - before if path.name != ".id"} == set()


def test_there_are_enough():
    assert len({tuple(arguments) for arguments, _, _ in CASES}) >= 120


@pytest.mark.parametrize("arguments", WHOLE, ids=" ".join)
def test_the_command_prints_it_and_exits_with_2(vlmprune, folder, arguments):
    done = vlmprune(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"vlmprune: {refusal(*arguments)}\n")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[::6], ids=name_of)
def test_many_more_through_the_command(vlmprune, folder, case):
    done = vlmprune(*case[0])
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("vlmprune: ")  # above it a library may have said something


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE=abc"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK, LOCAL_RANK"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK=x"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 of WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "-1"}, "MASTER_PORT=-1"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE=two"),
    ],
)
def test_an_environment_that_no_launcher_made(folder, monkeypatch, environment, said):
    rest = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"} if "RANK" in environment else {}
    for name, value in (rest | environment).items():
        monkeypatch.setenv(name, value)
    line = refusal("run", "ratio=0.5")
    assert said in line and "start it with accelerate launch or torchrun, or unset WORLD_SIZE" in line


def test_a_directory_of_another_fingerprint_is_refused(folder):
    quick = ["run", "method=none", "limit=4", "latency_samples=0", "logger=none", "show.samples=0"]
    assert cli.main(quick) == 0
    (file,) = folder.rglob("result.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "0" * 64}))
    assert re.search(r"belongs to another run.*000000000000", refusal(*quick))
