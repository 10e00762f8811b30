"""Random programs give the oracle's answers, or are refused in a line.

A program that fails is printed as Python; it goes into FOUND when its fault is mended. The same programs are drawn on
every machine, so that a commit passes or fails for itself, and before them those that failed there last;
PROGRAMS_SEED=1000 draws others.
"""

from __future__ import annotations

import os

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.programs.check import check
from tests.programs.program import Program, programs

COMMON = settings(
    deadline=None,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),  # in CI too, where there would be none
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
SEED = int(os.environ.get("PROGRAMS_SEED", "0"))  # of the first shard
TWO = [(2, "i0", 5), ("i0", 2, "i0", 5)]
FOUND = [  # by this test, in earlier versions of the engine
    Program("qwen3_vl", "sparsevlm", {"ratio": 0.5}, [(1, "i0", 4)], mode="scores", precision="float64"),
    Program("llava", "cls", {"ratio": 0.6}, [(1, "i0", 4)], turn="full"),
    Program("llava", "cls", {"ratio": 0.6}, TWO, turn="full"),
    Program("llava", "cls", {"ratio": 0.6}, TWO, mode="forward", turn="forward", rows="reorder"),
    Program("llava", "cls", {"ratio": 0.6}, TWO, mode="forward", turn="forward", rows="select"),
    Program("llava", "cls", {"ratio": 0.6}, TWO, mode="forward", turn="forward", rows="repeat"),
    Program("llava", "cls", {"ratio": 0.6}, TWO, mode="forward", turn="forward", rows="copy"),
    Program("llava", "cls", {"ratio": 1}, [("i0",)]),
    Program("llava", "fastv", {"ratio": 1}, [("i0",), (4,)]),
]


def run(number: int, seed: int) -> None:
    """Hypothesis draws `number` programs, and shrinks one that fails."""

    @settings(COMMON, max_examples=number)  # outermost: a seed alone would do without the database
    @hypothesis.seed(seed)
    @given(program=programs())
    def each(program: Program) -> None:
        check(program)

    each()


@pytest.mark.parametrize("shard", [0, *(pytest.param(shard, marks=pytest.mark.slow) for shard in (1, 2))])
def test_random_programs(shard: int) -> None:
    run(50, SEED + shard)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(3, 24))
def test_many_random_programs(shard: int) -> None:
    run(250, SEED + shard)


@pytest.mark.parametrize("program", FOUND, ids=repr)
def test_programs_that_once_failed(program: Program) -> None:
    assert check(program) in ("compared", "refused")
