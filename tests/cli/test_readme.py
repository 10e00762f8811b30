"""README's examples, as typed: all code blocks but those that need a GPU or a checkpoint of the hub."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("make", "pip", "llava")  # words of what is not run: the Makefile's own targets, a GPU's models
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")  # the first line of a block that is a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("user")


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every code block."""
    return BLOCK.findall((ROOT / "README.md").read_text())


def commands() -> list[list[str]]:
    """The arguments of every `vlmprune ...` line that can be run here, in the order of README."""
    lines = [line for language, text in blocks() if language == "bash" for line in text.splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in typed if words and not any(word in " ".join(words) for word in ELSEWHERE)]


def run(folder: Path, *words: str) -> str:
    """What a command prints, also to stderr; it must succeed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}"
    return done.stdout


def test_there_are_commands():
    assert len(commands()) >= 7
    assert {words[0] for words in commands()} >= {"run", "sweep", "compare", "show", "speed", "list"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command(words, folder):
    for _, text in blocks():
        if name := FILE.match(text):
            file = folder / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    assert run(folder, "-m", "vlmprune", *words)


def test_library(folder):
    (program,) = (text for language, text in blocks() if language == "python" and not FILE.match(text))
    assert run(folder, "-c", program).rstrip().endswith("(14 of 144 visual tokens)")
