"""The examples of README, CONTRIBUTING and docs/, as typed; not those that need a GPU, the hub or an account."""

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
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = ("lmms-eval", "make", "pip", "source", "wandb")  # first words of lines that are no command of vlmprune
ELSEWHERE = ("llava", "wandb")  # words of commands that need a GPU's models or an account
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")  # the first line of a block that is a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    for _, text in blocks(ROOT / "README.md"):
        if name := FILE.match(text):
            file = folder / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return folder


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every code block."""
    return BLOCK.findall(page.read_text())


def lines(page: Path) -> list[list[str]]:
    """The words of every line of the shell."""
    text = "\n".join(text for language, text in blocks(page) if language == "bash")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def commands() -> list[list[str]]:
    """The arguments of every `vlmprune ...` line that can be run here, README's first, each page's in its order."""
    typed = [words[1:] for page in PAGES for words in lines(page) if words[0] == "vlmprune"]
    return [words for words in typed if not any(word in " ".join(words) for word in ELSEWHERE)]


def program(page: str) -> str:
    """The Python blocks of a page that are no files, as one program."""
    return "".join(text for language, text in blocks(ROOT / page) if language == "python" and not FILE.match(text))


def run(folder: Path, *words: str) -> str:
    """Return what a command prints, also to stderr; it must succeed."""
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
    assert len(commands()) >= 9
    assert {words[0] for words in commands()} >= {"run", "sweep", "compare", "show", "speed", "list"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_line_of_the_shell_is_known(page):
    assert {words[0] for words in lines(page)} <= {"vlmprune", *OTHERS}


def test_the_first_run_prints_what_the_readme_shows(folder):
    """All lines but those of times, memory and folders."""
    (shown,) = (text for language, text in blocks(ROOT / "README.md") if not language)
    lasting = re.findall(r"^(?:cls at|accuracy|relative score|visual tokens|FLOPs|next) .*", shown, re.MULTILINE)
    printed = run(folder, "-m", "vlmprune", "run", "method=cls", "ratio=0.95")
    assert len(lasting) == 6
    assert [line for line in lasting if line not in map(str.rstrip, printed.splitlines())] == []


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command(words, folder):
    assert run(folder, "-m", "vlmprune", *words)


def test_library(tmp_path):
    """In a folder of its own: it prints all runs that there are."""
    printed = run(tmp_path, "-c", program("README.md") + program("docs/library.md")).splitlines()
    assert any(line.endswith("(14 of 144 visual tokens)") for line in printed)
    (header,) = (at for at, line in enumerate(printed) if line.split()[-1:] == ["versus_random_p"])
    assert sorted(line.split()[1] for line in printed[header + 1 :]) == ["cls", "cls", "none", "random"]
