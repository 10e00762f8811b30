"""Each hostile input ends in one line and exit code 2, without a traceback, in under ten seconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.hostile.table import LONGEST_SECONDS, Hostile, hostile_inputs, verdict
from tests.robustness.victims import Victims
from vlmprune import cli

INPUTS = hostile_inputs()
QUICK = [case for case in INPUTS if case.quick]


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    server = Victims()
    server.warm_up(tmp_path_factory.mktemp("warm"), "run", "keep=14", "limit=2", "logger=none")
    yield server
    server.close()


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.id)
def test_quick(case: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """In this process; an alarm ends what hangs."""
    case.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)

    def expire(number: int, frame: object) -> None:
        pytest.fail(f"it hangs: {LONGEST_SECONDS} seconds are over")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(int(LONGEST_SECONDS))
    try:
        code = cli.main([*case.arguments])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    printed = capsys.readouterr()
    assert verdict(case, code, printed.out, printed.err) == "", printed.err


@pytest.mark.slow
@pytest.mark.parametrize("case", INPUTS, ids=lambda case: case.id)
def test_as_a_process(case: Hostile, tmp_path: Path, fork_server: Victims):
    case.prepare(tmp_path)
    ended = fork_server.command(tmp_path, case.arguments, case.environment, LONGEST_SECONDS)
    assert verdict(case, ended.code, ended.output, ended.errors) == "", ended.errors[-3000:]


def test_the_table_is_large_and_its_names_are_unique():
    assert len({case.id for case in INPUTS}) == len(INPUTS) >= 1600
    assert len(QUICK) <= 60
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # nothing here waits for a network
