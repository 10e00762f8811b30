"""Random programs give the oracle's answers, or are refused in a line.

A program that fails is printed as Python; it goes into FOUND when its fault is mended.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.programs.check import check
from tests.programs.program import Program, programs

COMMON = settings(deadline=None, derandomize=False, print_blob=True, suppress_health_check=list(HealthCheck))
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


@pytest.mark.parametrize("shard", range(4))
@settings(COMMON, max_examples=50)
@given(program=programs())
def test_random_programs(shard: int, program: Program) -> None:
    check(program)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(20))
@settings(COMMON, max_examples=250)
@given(program=programs())
def test_many_random_programs(shard: int, program: Program) -> None:
    check(program)


@pytest.mark.parametrize("program", FOUND, ids=repr)
def test_programs_that_once_failed(program: Program) -> None:
    assert check(program) in ("compared", "refused")
