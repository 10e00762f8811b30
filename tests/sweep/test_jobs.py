"""The words of a sweep become its runs."""

from __future__ import annotations

import pytest

from vlmprune.config.overrides import drop_ineffective, expand_sweep, first_key
from vlmprune.errors import UserError
from vlmprune.sweep.jobs import plan_jobs


def titles(*settings: str) -> list[str]:
    return [job.title for job in plan_jobs(list(settings), None)]


def test_there_is_one_unpruned_run():
    """Whatever the others vary that means nothing to it."""
    found = titles("method=none,fastv", "positions=renumber,keep", "ratio=0.5", "method.k=3")
    assert found == [
        "method=none",
        "method=random positions=renumber ratio=0.5",
        "method=random positions=keep ratio=0.5",
        "method=fastv positions=renumber ratio=0.5 method.k=3",
        "method=fastv positions=keep ratio=0.5 method.k=3",
    ]


def test_a_range_has_the_numbers_that_one_would_type():
    assert expand_sweep(["ratio=range(0.1,0.5,0.2)"]) == [["ratio=0.1"], ["ratio=0.3"]]
    assert expand_sweep(["seed=range(0,3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]


def test_a_choice_without_settings_says_so():
    said = r"'method.k' is not a setting of method=uniform, but of fastv, scm; it has no settings"
    with pytest.raises(UserError, match=said):
        plan_jobs(["method=uniform", "method.k=3", "ratio=0.5"], None)


def test_words():
    assert [first_key(override) for override in ("method=cls", "+method.k=3", "ratio=0.5")] == ["method"] * 2 + [
        "ratio"
    ]
    typed = ["limit=4", "method=none", "keep=9", "+method.k=3", "scope=tile", "budget=average", "seed=1"]
    assert drop_ineffective(typed) == ["method=none", "limit=4", "seed=1"]
    assert drop_ineffective(["method=cls", "keep=9"]) == ["method=cls", "keep=9"]
