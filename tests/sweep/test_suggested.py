"""The commands that outputs suggest are those of the missing runs: running them gives one table without gaps."""

from __future__ import annotations

import re
import shlex

from tests.sweep.conftest import QUICK
from vlmprune.cli import main


def test_running_what_is_suggested_gives_one_table(place, capsys):
    (place.folder / "my results").mkdir()
    settings = ["method=uniform", "ratio=0.9", "positions=keep", "outputs=my results", *QUICK]
    assert main(["run", "--config-dir", "configs", *settings]) == 0
    (line,) = re.findall(r"^next   (.*)   \(for the relative score\)$", capsys.readouterr().out, re.MULTILINE)
    unpruned = shlex.split(line)
    assert unpruned[:3] == ["vlmprune", "run", "method=none"] and "positions=keep" not in unpruned
    assert "outputs=my results" in unpruned and any(word.startswith("--config-dir") for word in unpruned)

    assert main(["compare", "outputs=my results"]) == 0
    notes = re.findall(r"^note: .*: (vlmprune run .*)$", capsys.readouterr().out, re.MULTILINE)
    assert shlex.split(notes[0]) == unpruned and len(notes) == 2
    assert shlex.split(notes[1])[:4] == ["vlmprune", "run", "method=random", "ratio=0.9"]
    for note in notes:
        assert main(shlex.split(note)[1:]) == 0
    capsys.readouterr()

    assert main(["compare", "outputs=my results"]) == 0
    shown = capsys.readouterr().out
    assert "note:" not in shown and "cannot all be compared" not in shown and "not shown" not in shown
    rows = [line for line in shown.splitlines() if "/144" in line]
    assert len(rows) == 3 and len([row for row in rows if "uniform" in row and "(" in row]) == 1
