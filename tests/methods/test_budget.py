"""The one rule from ratio to count."""

import pytest

from vlmprune.methods.budget import kept_count, same_relative_depth


@pytest.mark.parametrize(
    ("ratio", "image", "frame"),
    [(0.25, 432, 192), (0.5, 288, 128), (0.75, 144, 64), (0.9, 58, 26), (0.95, 29, 13)],
)
def test_fastervlm_publishes(ratio: float, image: int, frame: int) -> None:
    assert (kept_count(576, ratio), kept_count(256, ratio)) == (image, frame)


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


def test_same_relative_depth() -> None:
    assert same_relative_depth(22, 24, 24) == 22
    assert [same_relative_depth(layer, 32, 4) for layer in (8, 16, 24)] == [1, 2, 3]
    assert [same_relative_depth(layer, 32, 40) for layer in (8, 16, 24)] == [10, 20, 30]
    assert same_relative_depth(2, 32, 24) == 2  # 1.5, halves up
    assert same_relative_depth(31, 32, 2) == 1  # never past the last layer
