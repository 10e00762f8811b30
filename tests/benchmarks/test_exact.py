"""Exact match: what is forgiven, and what is not."""

import pytest

from vlmprune.benchmarks.scoring.exact import exact_match


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [("Red", "red", 1.0), (" red. ", "red", 1.0), ("dark red", "red", 0.0), ("", "no", 0.0), ("No!", "no", 1.0)],
)
def test_exact_match(prediction, answer, score):
    assert exact_match(prediction, answer) == score
