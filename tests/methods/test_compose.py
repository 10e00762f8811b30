"""A method before the language model and one inside it share a reduction."""

from __future__ import annotations

import pytest

from tests.conftest import PATCHES, make_batch
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.errors import UserError
from vlmprune.methods.compose import Compose


@pytest.mark.parametrize(
    ("split", "first"),
    [(0, 36), (0.5, 18), (1, 9), (0.25, 25)],  # 36 (9/36)^split, rounded half up
)
def test_the_reduction_is_split(sdpa_model, split, first):
    record = record_of(sdpa_model, make_batch([8, 12]), "compose", ratio=0.75, split=split)
    counts = record.visual_counts
    assert counts[0] == counts[1] == [first, first]
    assert counts[2:] == [[9, 9]] * 4
    assert record.kept.sum(1).tolist() == [9, 9]


def test_several_images_share_the_end_of_the_decoder(sdpa_model):
    record = record_of(sdpa_model, make_batch([8], images=2), "compose", ratio=0.75)
    assert record.visual_counts[0] == [36]
    assert record.visual_counts[-1] == [18]
    assert record.kept.shape == (1, 2 * PATCHES)


def test_average_budget_is_that_of_the_whole_decoder(sdpa_model):
    record = record_of(sdpa_model, make_batch([8]), "compose", ratio=0.5, split=0.25, budget="average")
    counts = [count[0] for count in record.visual_counts]
    assert counts == [30, 30, 12, 12, 12, 12]
    assert sum(counts) / 6 == 18


def test_parts_have_their_own_settings_and_amounts(sdpa_model):
    parts = {"before": {"name": "visionzip", "ratio": 0.5}, "inside": {"name": "pyramiddrop", "keep": 4}}
    record = record_of(sdpa_model, make_batch([8]), "compose", **parts)
    assert record.visual_counts[0] == [18]
    assert record.visual_counts[-1] == [4]


def test_what_it_needs_is_what_its_parts_need():
    method = build_method("compose", before="divprune", inside="sparsevlm", ratio=0.5)
    assert method.needs == ("projected", "decoder_attention")
    assert method.merges
    assert method.reads_question


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inside": "cls"}, "inside=ClsAttention does not act inside"),
        ({"before": 3}, "expected a method's name"),
        ({"split": 1.5}, "allowed: 0 to 1"),
        ({"before": {"name": "cls", "ratio": 0.9}}, "give one of them"),
        ({"before": {"name": "cls", "keep_order": "x"}}, "method.before.keep_order=x"),
        ({"before": "tome", "scope": "image"}, "ToMe acts on tiles"),
    ],
)
def test_bad_parts_get_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        build_method("compose", ratio=0.5, **settings)


def test_without_an_amount_anywhere_nothing_would_be_pruned(sdpa_model):
    with pytest.raises(UserError, match="no amount given"):
        prune(sdpa_model, Compose())


def test_the_runs_seed_reaches_a_part():
    assert build_method("compose", ratio=0.5, before="random", run_seed=3).before.seed == 3


def test_scope_is_that_of_the_first_part():
    method = build_method("compose", ratio=0.5, scope="image")
    assert method.parts(36)[0].scope_rule == "image"
