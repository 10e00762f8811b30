"""The tables of `vlmprune speed` fit the terminal: columns go, and are named, before a number is broken."""

from __future__ import annotations

import re

import pytest

from vlmprune.results.tables import FORMATS
from vlmprune.speed import output
from vlmprune.speed.output import print_result

ROW = {
    "label": "fastv",
    "state": "measured",
    "ratio": 0.9,
    "keep": None,
    "batch_size": 1,
    "tokens": {"kept": 58, "visual": 576},
    "ms": {
        part: {"median_ms": 123.0}
        for part in (
            *("vision", "selection", "projector"),
            *("prefill", "first_token", "decode_per_token", "end_to_end"),
        )
    },
    "speed_up": dict.fromkeys(("prefill", "first_token", "decode_per_token", "end_to_end"), 1.25),
    "flops": {"first_token": 3.8e12},
    "flops_ratio": 2.5,
    "realised": 0.5,
    "flops_per_s": 3.1e14,
    "of_flops_ceiling": 0.45,
    "bytes_per_s": 2.1e12,
    "of_bandwidth_ceiling": 0.55,
    "peak_memory_mb": 14_321,
    "kv_cache_bytes": 2**28,
}
RESULT = {
    "rows": [ROW, ROW | {"label": "cls", "batch_size": 8}],
    "model": {"name": "tiny", "random_weights": False},
    "load": {"prompt_tokens": 64, "new_tokens": 32},
    "conditions": {"device": "cpu", "threads": 2, "dtype": "float32", "attention": "sdpa"},
    "ceiling": {"flops": 1e12, "bandwidth": 1e11},
}
TIMES, WORK = ([column.title for column in columns] for columns in (output.TIMES, output.WORK))


@pytest.fixture
def printed(monkeypatch, capsys):
    def at(width: int) -> list[str]:
        for name, value in {"COLUMNS": str(width), "LINES": "40", "TTY_COMPATIBLE": "1", "NO_COLOR": "1"}.items():
            monkeypatch.setenv(name, value)
        print_result(RESULT, "table")
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return at


def titles(lines: list[str]) -> list[list[str]]:
    """The columns of both tables."""
    found = []
    for line in lines:
        if {"method", "removed"} <= {*line.split()}:
            found.append([name for name in dict.fromkeys((*TIMES, *WORK)) if f" {name} " in f" {line} "])
    return found


def test_with_room_there_is_every_column(printed):
    lines = printed(160)
    assert titles(lines) == [TIMES, WORK]
    assert not any("lack of width" in line for line in lines)
    assert any("58/576" in line and "123 (1.25x)" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_narrow_terminal_loses_columns_by_name(printed, width):
    lines = printed(width)
    shown = titles(lines)
    left_out = " ".join(lines).partition("left out for lack of width: ")[2]  # in a narrow terminal it takes two lines
    gone = left_out.partition(" (format=csv")[0].split(", ")
    assert [sorted({*table} - {*gone}) for table in (TIMES, WORK)] == [sorted(table) for table in shown]
    assert {"batch", "method", "removed", "first token", "realised"} <= {name for table in shown for name in table}
    rows = [line for line in lines if line.split()[:2] in (["1", "fastv"], ["8", "cls"])]
    assert len(rows) == 4 and max(map(len, rows)) <= width


def test_what_is_left_out_is_not_explained(printed):
    assert any(line.startswith("decode GB/s") for line in printed(160))
    assert not any(line.startswith("decode GB/s") for line in printed(80))


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_has_all_rows(style, capsys):
    print_result(RESULT, style)
    out = capsys.readouterr().out
    assert "fastv" in out and "cls" in out
