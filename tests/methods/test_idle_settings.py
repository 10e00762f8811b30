"""A setting that cannot act is refused: it would change nothing but the run's fingerprint."""

from __future__ import annotations

from typing import Any

import pytest

from vlmprune.errors import UserError
from vlmprune.fingerprint import method_identity
from vlmprune.methods.base import Tower
from vlmprune.methods.pitome import PiToMe
from vlmprune.registry import build_method

CLIP_L = Tower(depth=24, feature_layer=22, grid=(24, 24), has_cls=True)
FALLING = [0.9, 0.8, 0.7]
AMOUNTS: list[dict[str, Any]] = [{"ratio": 0.9}, {"keep": 64}, {"budget": "average"}]


@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda amount: next(iter(amount)))
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("sparsevlm", {"retain": 64}),
        ("sparsevlm_plus", {"retain": 64}),
        ("pyramiddrop", {"image_token_ratio_list": FALLING}),
    ],
)
def test_a_published_schedule_and_an_amount(name: str, setting: dict[str, Any], amount: dict[str, Any]) -> None:
    build_method(name, **setting)
    (given,) = setting
    with pytest.raises(UserError, match=f"{given}=.* without an amount; leave it out"):
        build_method(name, **setting, **amount)


@pytest.mark.parametrize("setting", [{"scale": 9}, {"bias": 6}])
def test_of_rank_adaptive_only(setting: dict[str, Any]) -> None:
    build_method("sparsevlm", rank_adaptive=True, **setting)
    with pytest.raises(UserError, match="rank_adaptive=true"):
        build_method("sparsevlm", **setting)
    with pytest.raises(UserError, match="retain=64"):
        build_method("sparsevlm", rank_adaptive=True, retain=64)


def test_layers_of_another_number_need_no_fractions_beside_an_amount() -> None:
    method = build_method("pyramiddrop", layer_list=[8, 16], ratio=0.75)
    assert [(stage.layer, stage.kept) for stage in method.stages(32, 576)] == [(8, 288), (16, 144)]


@pytest.mark.parametrize("name", ["cls", "vtc_cls", "random"])
def test_order_where_positions_are_kept(name: str) -> None:
    build_method(name, ratio=0.5, keep_order="score")
    build_method(name, ratio=0.5, positions="keep")
    with pytest.raises(UserError, match="keep_order=score with positions=keep"):
        build_method(name, ratio=0.5, keep_order="score", positions="keep")


def test_a_margin_without_a_layer_that_has_one() -> None:
    PiToMe(ratio=0.5, margin=0.5).check(CLIP_L, 32)
    PiToMe(ratio=0.5, start_layer=23).check(CLIP_L, 32)
    with pytest.raises(ValueError, match="plain ToMe, which has no margin"):
        PiToMe(ratio=0.5, margin=0.5, start_layer=23).check(CLIP_L, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": 0.7}, "split=0.7"),
        ({"ratio": 0.9, "inside": {"name": "sparsevlm", "retain": 64}}, "retain=64"),
        ({"keep": 64, "inside": {"name": "pyramiddrop", "image_token_ratio_list": FALLING}}, "image_token_ratio_list"),
        ({"ratio": 0.9, "before": {"name": "tome", "layer_ratio": 0.9}}, "layer_ratio=0.9"),
    ],
)
def test_in_a_composed_method(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_method("compose", **settings)


def test_the_unpruned_model_is_one_run_whatever_positions_says() -> None:
    assert method_identity(build_method("none", positions="keep")) == method_identity(build_method("none"))
