"""The analytic formula against torch's own counter for every model family, on eager models, part by part."""

from __future__ import annotations

from functools import partial

import pytest

from tests.families import llava_next, llava_onevision
from tests.families.test_guarantees import FAMILIES, method_of, methods_of
from tests.measure.meter import NEW, compare, encoded_of
from tests.measure.test_flops import make_text_tower
from vlmprune.config.registry import build_method
from vlmprune.engine.session import Session
from vlmprune.measure.flops import question_flops
from vlmprune.models.base import EncoderSizes, UncountableFlops, adapt

OTHERS = [
    (family, name)
    for family in FAMILIES
    for name in methods_of(family)
    if family != "llava" and name not in ("cls", "divprune", "fastv", "scm")
]


of = partial(pytest.mark.parametrize, "family", indirect=True)


def batches(module):
    """One prompt with one image, with two, and with a video."""
    given = [module.batch([9]), module.batch([9], 2)]
    return [*given, module.video_batch([9])] if getattr(module, "video_batch", None) else given


@pytest.mark.parametrize("name", ["none", "cls", "divprune", "fastv"])
def test_every_part_equals_torchs_counter(family, name):
    model = family.make("eager")
    for batch in batches(family):
        compare(model, method_of(name), batch)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), OTHERS, indirect=["family"])
def test_other_methods_too(family, name):
    compare(family.make("eager"), method_of(name), family.batch([9]))


def test_text_relevance_of_tiles():
    for batch in batches(llava_next):
        compare(llava_next.make("eager"), method_of("cdpruner"), batch, make_text_tower())


@of(["llava_next", "llava_onevision", "video_llava", "qwen2_5_vl", "qwen3_vl"])
def test_all_tiles_ranked_together(family):
    for batch in batches(family):
        compare(family.make("eager"), build_method("divprune", ratio=0.6, scope="image"), batch)


@of(["llava_next", "llava_onevision"])
@pytest.mark.parametrize("name", ["cls", "divprune"])
def test_newlines_may_stay(family, name):
    compare(family.make("eager"), method_of(name), family.batch([9]), newline="keep")


@pytest.mark.parametrize(("name", "amount"), [("prumerge", {"ratio": 0.6}), ("prumerge_plus", {"keep": 5})])
def test_newlines_are_none_of_the_tokens_that_merge(name, amount):
    compare(llava_next.make("eager"), build_method(name, **amount), llava_next.batch([9]), newline="keep")


@pytest.mark.parametrize("before", ["prumerge", "divprune"])
def test_what_the_first_of_two_methods_keeps_of_several_tiles(before):
    for batch in batches(llava_next):
        compare(llava_next.make("eager"), build_method("compose", before=before, keep=12), batch)


def test_slots_are_those_of_the_unpruned_prompt(family):
    model = family.make()
    adapter = adapt(model)
    for batch in batches(family):
        with Session(adapter, method_of("none")) as session:
            model.generate(**batch, max_new_tokens=1, pad_token_id=0)
        assert [encoded_of(adapter, batch).slots] == session.record.visual_counts[0]


def test_windows_at_the_edge_are_smaller():
    sizes = EncoderSizes(8, 2, 0, 0, 0, 0, 8, window=4, full_layers=frozenset({1}))
    # 6 x 5 patches: windows of 4 x 4, 4 x 1, 2 x 4 and 2 x 1
    assert sizes.pairs(0, (6, 5)) == 16**2 + 4**2 + 8**2 + 2**2
    assert sizes.pairs(1, (6, 5)) == 30**2


@of(["llava_next", "internvl"])
def test_no_number_where_the_raters_are_not_known(family):
    adapter = adapt(family.make())
    encoded = encoded_of(adapter, family.batch([9]))
    with pytest.raises(UncountableFlops, match="rate"):
        question_flops(adapter, build_method("scm"), encoded, [encoded.slots] * adapter.decoder_depth, 9, NEW)


def test_no_number_for_a_pooling_head():
    adapter = adapt(llava_onevision.make())
    adapter.config.vision_config.vision_use_head = True
    with pytest.raises(UncountableFlops, match="pooling head"):
        question_flops(adapter, method_of("none"), encoded_of(adapter, llava_onevision.batch([9])), [9] * 6, 9, NEW)
