"""stdout and stderr that are closed, full, broken or know few characters: the work is done, its files are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.results.synthetic import make_run
from tests.robustness.victims import shell

RUN = "run method=none limit=2 latency_samples=0 show.samples=1 logger=none outputs=outputs"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C locale": ASCII,
    "no columns": {"COLUMNS": "0"},
    "dumb": {"TERM": "dumb", "FORCE_COLOR": "1"},
    "no color": {"NO_COLOR": "1", "COLUMNS": "1", "FORCE_COLOR": "1"},
    "strict": {"PYTHONIOENCODING": "ascii:strict", "PYTHONWARNINGS": "error"},
}


def check(done: subprocess.CompletedProcess[str], code: int = 0) -> list[str]:
    """Lines on stderr, after the exit code was checked, and that there is no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Two finished runs below `outputs`, of which one has a name that few terminals have."""
    make_run(tmp_path / "outputs", "none")
    make_run(tmp_path / "outputs", "fastv", 0.9)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("vlmprune >/dev/full", 2, "No space left on device"),
        ("vlmprune --help >/dev/full", 2, "No space left on device"),
        ("vlmprune --help >&-", 2, "it is closed"),
        ("vlmprune list benchmarks >/dev/full", 2, "No space left on device"),
        ("vlmprune list methods 2>&-", 0, ""),
        ("vlmprune list methods >&- 2>&-", 2, ""),
        ("vlmprune list methods >/dev/full 2>/dev/full", 2, ""),
        ("vlmprune completion bash | true", 0, "Broken pipe"),
        ("vlmprune list nonsense 2>&-", 2, ""),
        ("vlmprune list nonsense 2>/dev/full", 2, ""),
        ("vlmprune list methods <&-", 0, ""),
    ],
)
@pytest.mark.slow
def test_small_commands(line, code, said, tmp_path):
    lines = check(shell(tmp_path, line), code)
    assert len(lines) == bool(said) and said in "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("vlmprune compare >/dev/full", 2),
        ("vlmprune compare | head -c 1 >/dev/null", 0),
        ("vlmprune compare format=csv >&-", 2),
        ("vlmprune compare chart=a.png >&- 2>&-", 2),
        ("vlmprune compare chart=a.png | true", 0),
    ],
)
def test_compare(line, code, outputs):
    check(shell(outputs, line), code)
    assert (outputs / "a.png").exists() == ("chart" in line)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ends", [">&-", ">/dev/full", "| true", "2>&1 | head -1", "2>&-", ">&- 2>&- <&-", ">/dev/full 2>/dev/full"]
)
def test_a_run_ends_its_work(ends, tmp_path):
    lines = check(shell(tmp_path, f"vlmprune {RUN} {ends}"))
    assert sum("stdout took no more" in line for line in lines) == (ends in (">&-", ">/dev/full", "| true"))
    (file,) = tmp_path.rglob("result.json")
    assert json.loads(file.read_text())["answers"]["samples"] == 2
    assert sorted(path.name for path in file.parent.glob("pictures/*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TERMINALS)
def test_what_a_terminal_does_not_have_is_escaped(name, outputs):
    for command in ("--help", "list benchmarks", "list experiments", "compare", "compare --published"):
        done = shell(outputs, f"vlmprune {command}", **TERMINALS[name])
        check(done, 0 if "--published" not in command else done.returncode)
        assert done.stdout.isascii() or "ascii" not in str(TERMINALS[name])


@pytest.mark.slow
def test_files_are_utf8_whatever_the_terminal_is(tmp_path):
    """A question with characters of its own, answered and shown where the locale has none of them."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    row = {"image": "a.png", "question": "Größe ≥ 5 × 🦊?", "answer": "ß"}
    (folder / "questions.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    run = f"vlmprune {RUN} benchmark=folder benchmark.path=pictures"
    check(shell(tmp_path, run, **ASCII))
    (file,) = tmp_path.rglob("predictions.jsonl")
    assert json.loads(file.read_text(encoding="utf-8"))["question"] == row["question"]
    check(shell(tmp_path, run, **ASCII))
    check(shell(tmp_path, f"vlmprune score {file.parent}", **ASCII))
    check(shell(tmp_path, "vlmprune compare html=report.html", **ASCII))
    (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_pipe_that_does_not_block(tmp_path):
    """Half a megabyte into a pipe of 64 KB whose reader is slow."""
    code = (
        "import os; os.set_blocking(1, False)\n"
        "from vlmprune.terminal import open_streams, write_error; import sys\n"
        "open_streams(); print('x' * 500_000); assert write_error(sys.stdout) is None"
    )
    done = shell(tmp_path, f'"{sys.executable}" -c "{code}" | (sleep 1; wc -c)')
    check(done)
    assert done.stdout.split() == ["500001"]
