"""The one rule from ratio to count."""

from decimal import Decimal

import pytest

from vlmprune.methods.budget import kept_count, round_half_up, same_relative_depth, to_decimal
from vlmprune.methods.cls import ClsAttention


@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 432), (0.5, 288), (0.75, 144), (0.9, 58), (0.95, 29)])
def test_fastervlm_publishes(ratio: float, kept: int) -> None:
    assert kept_count(576, ratio) == kept


@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 192), (0.5, 128), (0.75, 64), (0.9, 26), (0.95, 13)])
def test_fastervlm_publishes_for_video(ratio: float, kept: int) -> None:
    assert kept_count(256, ratio) == kept


def test_halves_go_up_in_exact_decimals() -> None:
    assert kept_count(25, 0.9) == 3  # 25 * (1 - 0.9) is 2.4999999999999996 in floats
    assert kept_count(5, 0.5) == 3
    assert kept_count(3, 0.5) == 2
    assert kept_count(1000, 0.9995) == 1


def test_bounds() -> None:
    assert kept_count(576, 0) == 576
    assert kept_count(576, 0.9999) == 1  # at least one
    assert kept_count(576, 1) == 0  # the blind baseline
    assert kept_count(576, 1.0) == 0
    assert kept_count(0, 0.5) == 0
    assert kept_count(576) == 576


def test_keep() -> None:
    assert kept_count(576, keep=64) == 64
    assert kept_count(36, keep=64) == 36
    assert kept_count(576, keep=0) == 0


def test_round_half_up() -> None:
    assert [round_half_up(x) for x in (0.5, 1.5, 2.5, 2.4999, 3.0)] == [1, 2, 3, 2, 3]
    assert round_half_up(Decimal("2.5")) == 3


def test_exact() -> None:
    assert 1 - to_decimal(0.9) == Decimal("0.1")


def test_same_relative_depth() -> None:
    assert same_relative_depth(22, 24, 24) == 22
    assert [same_relative_depth(layer, 32, 4) for layer in (8, 16, 24)] == [1, 2, 3]
    assert [same_relative_depth(layer, 32, 40) for layer in (8, 16, 24)] == [10, 20, 30]
    assert same_relative_depth(2, 32, 24) == 2  # 1.5, halves up
    assert same_relative_depth(31, 32, 2) == 1  # never past the last layer


def test_methods_count_by_it() -> None:
    assert ClsAttention(ratio=0.95).count(576) == 29
    assert ClsAttention(keep=64).count(576) == 64
    assert ClsAttention(ratio=0).keeps_all(576)
    assert ClsAttention(keep=600).keeps_all(576)
    assert ClsAttention().keeps_all(576)
    assert not ClsAttention(ratio=0.95).keeps_all(576)
