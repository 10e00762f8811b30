"""The running score that a logger gets while a run answers questions."""

from __future__ import annotations

from typing import Any

import pytest

from vlmprune.evaluation import scores
from vlmprune.evaluation.scores import REPORT_SECONDS, RunningScore


class Clock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(scores, "time", own)
    return own


def lines(*values: float | None) -> list[dict[str, Any]]:
    return [{"image_id": f"i{at}", "score": value} for at, value in enumerate(values)]


def test_score_and_rate_so_far(clock: Clock) -> None:
    sent: list[dict[str, float]] = []
    running = RunningScore(sent.append, lines(1.0, 0.0))  # answered before the run was resumed
    clock.now += 4
    running.add(lines(1.0, 1.0))
    assert sent[0] == pytest.approx({"questions": 4, "questions_per_s": 0.5, "score": 0.75} | sent[0])
    assert 0 <= sent[0]["score_low"] < 0.75 < sent[0]["score_high"] <= 1


def test_reports_are_seconds_apart_and_the_last_is_complete(clock: Clock) -> None:
    sent: list[dict[str, float]] = []
    running = RunningScore(sent.append, [])
    for _ in range(10):
        clock.now += REPORT_SECONDS / 4
        running.add(lines(1.0))
    running.send()
    assert [each["questions"] for each in sent] == [1, 5, 9, 10]


def test_answers_that_wait_for_a_judge_have_no_score(clock: Clock) -> None:
    sent: list[dict[str, float]] = []
    clock.now += 1
    RunningScore(sent.append, []).add(lines(None, 1.0))
    assert sent == [{"questions": 2}]
