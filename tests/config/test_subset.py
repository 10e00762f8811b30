"""limit and shard: stable, disjoint, the same for every method, and named."""

from __future__ import annotations

import pytest

from vlmprune.benchmarks.base import Sample
from vlmprune.config.subset import Subset, nearest_total
from vlmprune.errors import UserError

SAMPLES = [Sample(str(number), str(number), "", "", "") for number in range(100)]


def ids(**settings):
    return [int(sample.id) for sample in Subset(**settings).choose(SAMPLES)]


def test_a_limit_is_stable_in_order_and_part_of_a_larger_one():
    assert ids(limit=10) == ids(limit=10) == sorted(ids(limit=10))
    assert len(ids(limit=10)) == 10 and ids(limit=10) != list(range(10))
    assert set(ids(limit=10)) < set(ids(limit=30))
    assert ids(limit="10%") == ids(limit=10)
    assert ids(limit="0.1%") == ids(limit=1)
    assert ids(limit=None) == ids(limit=500) == list(range(100))


@pytest.mark.parametrize("limit", [None, 10, "33%"])
def test_shards_share_nothing_and_make_up_the_whole(limit):
    parts = [ids(limit=limit, shard=f"{part}/4") for part in range(1, 5)]
    assert sorted(number for part in parts for number in part) == ids(limit=limit)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("limit", [9, 10, 11, 25, "50%"])
def test_samples_of_one_group_are_taken_together(limit):
    grouped = [Sample(str(number), str(number), "", "", "", group=str(number % 30)) for number in range(100)]

    def chosen(**settings):
        return [int(sample.id) for sample in Subset(**settings).choose(grouped)]

    ids = chosen(limit=limit)
    assert ids == sorted(ids) and abs(len(ids) - Subset(limit).size(100)) <= 2  # groups have three or four
    assert {number for number in range(100) if number % 30 in {own % 30 for own in ids}} == set(ids)
    assert set(ids) <= set(chosen(limit=60))
    assert 3 <= len(chosen(limit=1)) <= 4 and set(chosen(limit=1)) <= set(ids)
    parts = [chosen(limit=60, shard=f"{part}/3") for part in (1, 2, 3)]
    assert sorted(number for part in parts for number in part) == chosen(limit=60)
    assert all(not {own % 30 for own in parts[0]} & {own % 30 for own in part} for part in parts[1:])


def test_nearest_total():
    assert [nearest_total([3, 4, 3], wanted) for wanted in (1, 4, 5, 6, 8, 9, 50)] == [1, 1, 1, 2, 2, 3, 3]


def test_names():
    assert Subset().name(100) == Subset(limit=100).name(100) == Subset(limit="100%").name(100) == "all"
    assert Subset(limit=10).name(100) == Subset(limit="10%").name(100) == Subset(limit="10.0%").name(100) == "limit=10"
    assert Subset(limit="10%", shard="2/3").name(100) == "limit=10 shard=2/3"
    assert Subset(shard="1/1").name(100) == "all" and Subset(shard="02/03").name(100) == "shard=2/3"
    assert Subset().is_whole and not Subset(shard="1/1").is_whole


IMPOSSIBLE = {"limit": [0, "0%", "110%", "ten", "-5%"], "shard": ["0/4", "5/4", "1", "1/0", "a/b"]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in IMPOSSIBLE for value in IMPOSSIBLE[name]])
def test_impossible_ones(name, value):
    with pytest.raises(UserError, match=str(value)):
        Subset(**{name: value})


def test_an_empty_shard_is_said_so():
    with pytest.raises(UserError, match="only 2 samples"):
        Subset(limit=2, shard="3/4").choose(SAMPLES)
