"""A setting that cannot act is refused: it would change nothing but the run's fingerprint."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.decoder_signals import LAYOUTS, signals_of
from tests.methods.synthetic import random_signals
from vlmprune import prune
from vlmprune.config.registry import DESCRIPTION, build_method, find_choices, read_choice
from vlmprune.errors import UserError
from vlmprune.evaluation.identity import method_identity
from vlmprune.methods.base import Method, SequenceMethod, Tower
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.methods.pitome import PiToMe

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


def amount_of(name: str) -> dict[str, Any]:
    return {} if name == "none" else {"ratio": 0.5, "clip": "a/clip"} if name == "cdpruner" else {"ratio": 0.5}


def effects(method: Method) -> list[Any]:
    """All that a method does that a setting of it may change, on one set of random signals."""
    found: list[Any] = []
    for part in method.parts(576):
        found += [type(part), part.position_rule, getattr(part, "scope_rule", None), getattr(part, "clip", None)]
        if isinstance(part, DecoderMethod):
            signals = signals_of(LAYOUTS, part)
            first = [part.stages(32, int(n))[0] for n in signals.visual.sum(dim=1)]
            chosen = part.select(signals, first)
            found += [part.stages(32, 576), part.restarts, chosen.keep, chosen.hidden]
        elif isinstance(part, VisionMethod):
            metric = torch.randn(1, 577, 8, generator=torch.Generator().manual_seed(0))
            matching = [part.match(metric, 20, layer, CLIP_L) for layer in (4, 20)]
            found += [part.merge_counts(CLIP_L, 576), *(each.gone for each in matching)]
        elif isinstance(part, SequenceMethod):
            chosen = part.select(random_signals(), 12)
            found += [part.layers(CLIP_L), chosen.indices, chosen.features, part.shares([40, 8])]
    return [each.tolist() if isinstance(each, torch.Tensor) else each for each in found]


COMMON = [
    ("scope", "tile"),
    ("scope", "image"),
    ("budget", "average"),
    ("positions", "renumber"),
    ("positions", "keep"),
]


@pytest.mark.parametrize(("setting", "value"), COMMON)
@pytest.mark.parametrize("name", sorted(find_choices("method")))
def test_a_setting_of_the_run_acts_is_so_anyway_or_is_refused(name: str, setting: str, value: str) -> None:
    """There are no two runs in two directories for the same answers."""
    plain = build_method(name, **amount_of(name))
    try:
        method = build_method(name, **amount_of(name), **{setting: value})
    except UserError as error:
        assert str(error).startswith((f"{setting}={value}: ", f"method: {setting}={value}: "))
        assert "; leave it out" in str(error) or "; allowed: published" in str(error)
    else:
        assert (method_identity(method) == method_identity(plain)) == (effects(method) == effects(plain))
        for part in method.parts(576):
            rule = getattr(part, {"positions": "position_rule", "scope": "scope_rule"}.get(setting, setting), value)
            assert part.stage == "none" or rule == value


ADAPTIVE = {"rank_adaptive": True}
OWN: list[tuple[str, str, Any, dict[str, Any]]] = [  # method, setting, a value that is not the default, beside what
    ("cdpruner", "clip", "another/clip", {"ratio": 0.5}),
    ("cls", "keep_order", "score", {"ratio": 0.5}),
    ("compose", "before", "divprune", {"ratio": 0.5}),
    ("compose", "inside", "pyramiddrop", {"ratio": 0.5}),
    ("compose", "split", 0.2, {"ratio": 0.5}),
    ("fastv", "k", 5, {"ratio": 0.5}),
    ("pitome", "layer_ratio", 0.9, {}),
    ("pitome", "margin", 0.1, {"ratio": 0.5}),
    ("pitome", "start_layer", 2, {"ratio": 0.5}),
    ("prumerge", "neighbors", 3, {"ratio": 0.5}),
    ("prumerge_plus", "neighbors", 3, {"ratio": 0.5}),
    ("pyramiddrop", "image_token_ratio_list", FALLING, {}),
    ("pyramiddrop", "layer_list", [4, 8, 12], {"ratio": 0.5}),
    ("pyramiddrop", "published_depth", 40, {"ratio": 0.5}),
    ("random", "keep_order", "score", {"ratio": 0.5}),
    ("random", "seed", 1, {"ratio": 0.5}),
    ("scm", "k", 3, {"ratio": 0.5}),
    ("scm", "restart", False, {"ratio": 0.5}),
    ("sparsevlm", "bias", 6, ADAPTIVE | {"scale": 0.5}),
    ("sparsevlm", "layers", [3, 6, 15], {"ratio": 0.5}),
    ("sparsevlm", "published_depth", 40, {"ratio": 0.5}),
    ("sparsevlm", "rank_adaptive", True, {}),
    ("sparsevlm", "recycle", False, {"ratio": 0.5}),
    ("sparsevlm", "retain", 64, {}),
    ("sparsevlm", "scale", 0.5, ADAPTIVE),
    ("sparsevlm_plus", "heads", 1, {"ratio": 0.5}),
    ("sparsevlm_plus", "layers", [3, 6, 15], {"ratio": 0.5}),
    ("sparsevlm_plus", "published_depth", 40, {"ratio": 0.5}),
    ("sparsevlm_plus", "retain", 64, {}),
    ("tome", "layer_ratio", 0.9, {}),
    ("vispruner", "important_ratio", 0.1, {"ratio": 0.5}),
    ("visionzip", "contextual", 5, {"ratio": 0.5}),
    ("vtc_cls", "end_layer", 20, {"ratio": 0.5}),
    ("vtc_cls", "keep_order", "score", {"ratio": 0.5}),
    ("vtc_cls", "start_layer", 4, {"ratio": 0.5}),
]


@pytest.mark.parametrize(("name", "setting", "value", "beside"), OWN)
def test_a_setting_of_its_own_acts(name: str, setting: str, value: Any, beside: dict[str, Any]) -> None:
    method, plain = build_method(name, **beside, **{setting: value}), build_method(name, **beside)
    assert effects(method) != effects(plain)
    # The content of a CLIP counts, not its name: tests/evaluation/test_identity.py.
    assert (method_identity(method) != method_identity(plain)) is (setting != "clip")


def test_every_setting_of_a_method_is_in_the_table() -> None:
    settings = {
        (name, key) for name in find_choices("method") for key in read_choice("method", name) if key not in DESCRIPTION
    }
    assert settings == {(name, setting) for name, setting, *_ in OWN}


@pytest.mark.parametrize("setting", ["ratio", "keep", "positions", "scope", "budget"])
def test_a_setting_of_the_run_in_a_methods_yaml(setting: str) -> None:
    config = read_choice("method", "cls") | {setting: 1}
    with pytest.raises(UserError, match=f"method.{setting}=1: is a setting of the run; give {setting}=1 instead"):
        build_method("cls", config=config, ratio=0.5)


def test_a_setting_of_a_composed_method_is_its_parts() -> None:
    """One run, however it is written."""
    parts = {"before": {"name": "cls", "scope": "image", "positions": "keep"}, "inside": {"name": "fastv"}}
    whole = build_method("compose", ratio=0.5, scope="image", positions="keep")
    assert method_identity(whole) == method_identity(build_method("compose", ratio=0.5, **parts))
    inside = {"name": "fastv", "budget": "average"}
    whole = build_method("compose", ratio=0.5, budget="average")
    assert method_identity(whole) == method_identity(build_method("compose", ratio=0.5, inside=inside))
    with pytest.raises(UserError, match="positions=renumber and positions=keep on ClsAttention: give one of them"):
        build_method("compose", ratio=0.5, positions="renumber", before=parts["before"])
    with pytest.raises(UserError, match=r"method\.before\.budget=average: .*; leave it out"):
        build_method("compose", ratio=0.5, before={"name": "cls", "budget": "average"})


def test_in_the_library(sdpa_model: Any) -> None:
    with pytest.raises(UserError, match=r"^scope=tile: fastv ranks all visual tokens of a prompt together"):
        prune(sdpa_model, "fastv", ratio=0.5, scope="tile")
    with pytest.raises(UserError, match=r"^scope=image: this model ranks each picture, tile or frame by itself"):
        prune(sdpa_model, "cls", ratio=0.5, scope="image")
