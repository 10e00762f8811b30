"""The tables of `vlmprune speed` fit the terminal: columns go, and are named, before a number is broken."""

from __future__ import annotations

import re

import pytest

from vlmprune.results.curves import COLORS, find_look
from vlmprune.results.tables import FORMATS
from vlmprune.speed import output
from vlmprune.speed.output import print_result, speed_chart
from vlmprune.speed.result_schema import add_timing_doubts

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


def timed(label: str, median: float, p90: float | None = None, **fields: object) -> dict:
    """A measured row whose time to the first token is `median` ms."""
    times = {"median_ms": median} | ({} if p90 is None else {"p90_ms": p90})
    row = {name: value for name, value in ROW.items() if name not in ("speed_up", "flops_ratio", "realised")}
    return row | {"label": label, "ms": ROW["ms"] | {"first_token": times}} | fields


def compared(median: float, p90: float | None = None, label: str = "cls", faster: float = 1.0) -> dict:
    speed_up = dict.fromkeys(ROW["speed_up"], faster)
    return timed(label, median, p90, speed_up=speed_up, flops_ratio=2.5, realised=faster / 2.5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([timed("unpruned", 100, 149), compared(50, 74, faster=2)], None),
        ([timed("unpruned", 100), compared(50, faster=2)], None),  # an older result, without a p90
        ([timed("unpruned", 100), compared(50, 76, faster=2)], "p90 of the first token is 1.5x the median"),
        ([timed("unpruned", 100, 210), compared(50, faster=2)], "p90 of the unpruned first token is 2.1x the median"),
        (
            [timed("unpruned", 100), compared(31, faster=100 / 31)],
            "its speed-up would be 129% of the theoretical one",
        ),
        # Compilation makes it faster as well, beside the plain unpruned model and not beside the compiled one.
        (
            [
                timed("unpruned", 100),
                timed("unpruned compiled", 60, speed_up=dict.fromkeys(ROW["speed_up"], 1.6), flops_ratio=1.0),
                compared(30, label="cls compiled", faster=100 / 30),
            ],
            None,
        ),
        ([timed("unpruned", 100), compared(30, label="cls compiled", faster=100 / 30)], None),
    ],
)
def test_a_timing_that_cannot_be_trusted_is_said_in_place_of_the_finding(rows, reason, capsys, tmp_path):
    rows = [dict(row) for row in rows]
    add_timing_doubts(rows)
    assert rows[-1].get("timing_doubt") == reason
    print_result(RESULT | {"rows": rows}, "markdown")
    out = capsys.readouterr().out
    chart = tmp_path / "chart.svg"
    ms = ROW["ms"] | {"other": {"median_ms": 1.0}}
    drawn = [row | {"ms": ms | {"first_token": row["ms"]["first_token"]}} for row in rows]
    speed_chart(RESULT | {"rows": drawn}, chart)
    if reason is None:
        assert "of the theoretical speed-up is realised" in out and "?" not in out
        assert ">?<" not in chart.read_text()
        return
    (finding,) = (line for line in out.splitlines() if line.startswith("batch 1"))
    assert finding.endswith(f"fewer FLOPs to the first token; its timing is not to be trusted: {reason}")
    assert out.count("%? |") == 1 and "?: not to be trusted" in out and "is realised" not in out
    assert ">?<" in chart.read_text()


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_has_all_rows(style, capsys):
    print_result(RESULT, style)
    out = capsys.readouterr().out
    assert "fastv" in out and "cls" in out


def test_a_method_has_its_colour_here_too_and_no_part_has_one_of_a_method(tmp_path):
    output.speed_chart(RESULT | {"rows": [ROW | {"ms": ROW["ms"] | {"other": None}}]}, tmp_path / "a.svg")
    color, _ = find_look("fastv")
    assert f"stroke: {color.lower()}" in (tmp_path / "a.svg").read_text()
    assert {color for color, _ in output.PARTS.values()}.isdisjoint(COLORS)
