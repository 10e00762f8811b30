"""Two processes in one directory, started at the same instant: one works, the other refuses, nothing is doubled."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.robustness.left import left

pytestmark = pytest.mark.slow

PAIRS = 6
COMMON = ("ratio=0.9", "method=cls", "batch_size=2", "latency_samples=0", "show.samples=0", "logger=none", "limit=6")
BUSY = "is in use by another vlmprune process: wait for it to end"


def test_two_runs_in_one_directory(victims, tmp_path):
    server, arguments = victims[0], ("run", *COMMON)
    assert server.run(tmp_path / "calm", *arguments).code == 0
    expected, codes = left(tmp_path / "calm"), Counter[tuple[int, ...]]()
    for pair in range(PAIRS):
        folder = tmp_path / str(pair)
        both = [server.end(pid) for pid in [server.start(folder, *arguments) for _ in range(2)]]
        codes[tuple(sorted(ended.code for ended in both))] += 1
        assert sum(BUSY in ended.errors for ended in both) == sum(ended.code == 2 for ended in both), both
        assert left(folder) == expected, f"pair {pair}: another outcome"
        assert server.run(folder, *arguments).code == 0, "the lock was not released"
    assert codes == {(0, 2): PAIRS}, f"exit codes of {PAIRS} pairs: {dict(codes)}"


def test_two_sweeps_over_the_same_jobs(victims, tmp_path):
    server, arguments = victims[0], ("sweep", *COMMON)
    assert server.run(tmp_path / "calm", *arguments).code == 0
    expected, refused = left(tmp_path / "calm"), 0
    for pair in range(PAIRS // 2):
        folder = tmp_path / str(pair)
        both = [server.end(pid) for pid in [server.start(folder, *arguments) for _ in range(2)]]
        assert {ended.code for ended in both} <= {0, 1}, both
        failed = [line for ended in both for line in ended.errors.splitlines() if "FAILED" in line]
        assert all(BUSY in line for line in failed), failed
        assert any(ended.code == 1 for ended in both) == bool(failed), both
        refused += len(failed)
        assert left(folder) == expected, f"pair {pair}: another outcome"
        assert server.run(folder, *arguments).code == 0, "the same sweep again is not done"
    assert refused >= 1, f"{PAIRS // 2} pairs of sweeps never met in a directory"
