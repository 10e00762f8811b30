"""limit and shard: stable, disjoint, the same for every method, and named."""

from __future__ import annotations

import pytest

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.subset import Subset
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


def test_names():
    assert Subset().name(100) == Subset(limit=100).name(100) == Subset(limit="100%").name(100) == "all"
    assert Subset(limit=10).name(100) == "limit=10"
    assert Subset(limit="10%", shard="2/3").name(100) == "limit=10% shard=2/3"
    assert Subset().whole and not Subset(shard="1/1").whole


@pytest.mark.parametrize(
    "settings", [{"limit": 0}, {"limit": "0%"}, {"limit": "110%"}, {"limit": "ten"}, {"limit": "-5%"}]
)
def test_impossible_limits(settings):
    with pytest.raises(UserError, match=str(settings["limit"])):
        Subset(**settings)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "a/b"])
def test_impossible_shards(shard):
    with pytest.raises(UserError, match=shard):
        Subset(shard=shard)


def test_an_empty_shard_is_said_so():
    with pytest.raises(UserError, match="only 2 samples"):
        Subset(limit=2, shard="3/4").choose(SAMPLES)
