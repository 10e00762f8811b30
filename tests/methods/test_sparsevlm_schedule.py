"""Numbers of tokens that SparseVLM and SparseVLM+ leave, and before which layers."""

from __future__ import annotations

import pytest

from vlmprune.methods.base import Tower
from vlmprune.methods.budget import round_half_up
from vlmprune.methods.decoder_method import average_tokens
from vlmprune.methods.sparsevlm import SparseVLM, SparseVLMPlus, TextRatedMethod

BOTH = [SparseVLM, SparseVLMPlus]
TOWER = Tower(depth=24, feature_layer=22, grid=(24, 24), has_cls=True)


def left(method: TextRatedMethod, n: int = 576, depth: int = 32) -> list[int]:
    return [stage.left for stage in method.stages(depth, n)]


@pytest.mark.parametrize(
    ("retain", "recycled", "visual"),
    [
        (192, [(276, 83, 9), (109, 33, 4), (94, 29, 3)], [309, 204, 113]),
        (128, [(273, 82, 9), (202, 61, 7), (81, 25, 3)], [312, 117, 39]),
        (96, [(338, 102, 11), (201, 61, 7), (29, 9, 1)], [249, 55, 27]),
        (64, [(510, 154, 16), (52, 16, 2), (15, 5, 1)], [82, 32, 18]),
    ],
)
def test_published_counts(retain: int, recycled: list[tuple[int, int, int]], visual: list[int]) -> None:
    """Dropped, recycled and merged tokens of every stage, and the visual tokens that go on."""
    stages = SparseVLM(retain=retain).stages(32, 576)
    assert [stage.layer for stage in stages] == [3, 7, 16]  # the outputs of layers 2, 6 and 15
    assert [stage.left for stage in stages] == visual
    before = [576, *visual]
    found = [(n - stage.kept, stage.candidates, stage.merged) for n, stage in zip(before, stages, strict=False)]
    assert found == recycled


@pytest.mark.parametrize(("retain", "average"), [(192, 206.5), (128, 145.4), (96, 114.1), (64, 82.3)])
def test_what_the_published_budgets_really_are(retain: int, average: float) -> None:
    """The authors count a layer with what it leaves; what layers see is 14 to 18 tokens more."""
    assert average_tokens(SparseVLM(retain=retain).stages(32, 576), 32, 576) == pytest.approx(average, abs=0.05)


def test_published_counts_without_recycling() -> None:
    assert left(SparseVLMPlus()) == [300, 200, 118]
    assert left(SparseVLMPlus(retain=64)) == [66, 34, 20]
    assert left(SparseVLM(recycle=False)) == [300, 200, 110]


def test_published_counts_scale_with_the_image() -> None:
    assert left(SparseVLMPlus(), n=2880) == [1500, 1000, 590]
    assert [stage.kept for stage in SparseVLM(retain=64).stages(32, 144)] == [17, 8, 4]  # 16.5, 7.5, 4.25
    assert [stage.kept for stage in SparseVLM().stages(32, 9)] == [5, 3, 2]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("retain", [192, 128, 96, 64])
def test_every_stage_drops_and_keeps_something(cls: type[TextRatedMethod], retain: int) -> None:
    for n in range(1, 700):
        before = n
        for stage in cls(retain=retain).stages(32, n):
            assert 1 <= stage.kept <= max(1, before - 1)
            assert stage.left <= before
            before = stage.left
    assert left(cls(retain=retain), n=0) == [0, 0, 0]


@pytest.mark.parametrize("cls", BOTH)
def test_ratio_and_keep_are_what_is_left_in_the_end(cls: type[TextRatedMethod]) -> None:
    assert left(cls(ratio=0.875)) == [288, 144, 72]
    assert left(cls(keep=64)) == [277, 133, 64]
    assert left(cls(ratio=0.5, layers=(2,))) == [288]
    assert left(cls(ratio=1)) == [0, 0, 0]
    assert left(cls(keep=5), n=0) == [0, 0, 0]
    assert cls(ratio=0).keeps_all(576)


def test_merged_tokens_are_part_of_the_number() -> None:
    for layers in ((2, 6, 15), (15,)):
        for n in (1, 2, 9, 36, 100, 576):
            for k in range(1, n + 1):
                before, stages = n, SparseVLM(keep=k, layers=layers).stages(32, n)
                assert stages[-1].left == k
                for stage in stages:
                    assert stage.left <= before
                    assert stage.kept >= 1
                    assert stage.merged <= stage.candidates <= before - stage.kept
                    assert (stage.merged > 0) == (stage.candidates > 0)
                    before = stage.left


def test_merges_what_is_published_where_there_is_room() -> None:
    """Ten recycled tokens or fewer for one merged one, and no token more could be kept."""
    for k in range(30, 576):
        (stage,) = SparseVLM(keep=k, layers=(2,)).stages(32, 576)
        assert (stage.candidates, stage.merged) == (3 * (576 - stage.kept) // 10 + 1, stage.candidates // 10 + 1)
    (stage,) = SparseVLM(keep=5, layers=(2,)).stages(32, 576)
    assert (stage.kept, stage.merged, stage.candidates) == (1, 4, 40)
    (stage,) = SparseVLM(keep=576, layers=(2,)).stages(32, 576)
    assert (stage.kept, stage.merged) == (576, 0)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("ratio", [0.5, 2 / 3, 0.8, 0.88])
def test_average_budget(cls: type[TextRatedMethod], ratio: float) -> None:
    """No more than asked for, and one token more in the end would be more."""
    stages = cls(ratio=ratio, budget="average").stages(32, 576)
    more = cls(keep=stages[-1].left + 1).stages(32, 576)
    assert average_tokens(stages, 32, 576) <= round_half_up(576 * (1 - ratio)) < average_tokens(more, 32, 576)


@pytest.mark.parametrize("cls", BOTH)
def test_average_budget_that_cannot_be_reached(cls: type[TextRatedMethod]) -> None:
    with pytest.raises(ValueError, match="the least is 54"):  # three of 32 layers see all 576
        cls(keep=53, budget="average").stages(32, 576)


@pytest.mark.parametrize("cls", BOTH)
def test_same_relative_depth(cls: type[TextRatedMethod]) -> None:
    def layers(method: TextRatedMethod, depth: int) -> list[int]:
        return [stage.layer for stage in method.stages(depth, 576)]

    assert layers(cls(), 40) == [4, 9, 20]  # the outputs of 3, 8 and 19
    assert layers(cls(published_depth=40), 40) == [3, 7, 16]
    assert layers(cls(), 6) == [1, 2, 4]
    for depth in range(4, 100):
        assert 0 < layers(cls(), depth)[0] < layers(cls(), depth)[1] < layers(cls(), depth)[2] < depth


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_refuses_a_decoder_that_is_too_shallow(cls: type[TextRatedMethod], depth: int) -> None:
    with pytest.raises(ValueError, match="the smallest depth that works: 4"):
        cls().stages(depth, 576)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("layers", [(), (2, 2, 15), (6, 2, 15), (-1, 6, 15), (2, 6, 31)])
def test_refuses_other_layers(cls: type[TextRatedMethod], layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending layers of 0 to 30"):
        cls(layers=layers, ratio=0.5)


@pytest.mark.parametrize("cls", BOTH)
def test_published_counts_are_for_three_layers(cls: type[TextRatedMethod]) -> None:
    with pytest.raises(ValueError, match="for three; give ratio= or keep="):
        cls(layers=(2, 6))


class TestRankAdaptive:
    def test_layers_are_known_and_counts_are_not(self) -> None:
        method = SparseVLM(rank_adaptive=True, layers=(2, 6, 15, 19))
        assert [(stage.layer, stage.left) for stage in method.stages(32, 576)] == [
            (3, 576),
            (7, 576),
            (16, 576),
            (20, 576),
        ]
        method.check(TOWER, 32)
        assert not method.keeps_all(576)
        with pytest.raises(ValueError, match="the smallest depth that works"):
            method.check(TOWER, 4)

    @pytest.mark.parametrize("amount", [{"ratio": 0.5}, {"keep": 5}, {"budget": "average"}])
    def test_takes_no_amount(self, amount: dict) -> None:
        with pytest.raises(ValueError, match="the prompt decides"):
            SparseVLM(rank_adaptive=True, **amount)


def test_refuses_no_heads() -> None:
    with pytest.raises(ValueError, match="heads=0; allowed: 1 or more"):
        SparseVLMPlus(heads=0)
