"""`compose` with keep=: so many tokens of a prompt are left in the end, on models with tiles and frames too."""

from __future__ import annotations

import pytest
import torch

from tests.families import llava_next
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.engine.session import Session
from vlmprune.measure.stage_costs import SequenceCost, visual_by_layer
from vlmprune.models.base import EncoderInput, adapt
from vlmprune.pictures.selection_trace import Trace

KEEP = 6


def layers_of(family, inputs, **settings):
    """Visual tokens of each prompt at the first and at the last layer."""
    record = record_of(family.make(), inputs, "compose", **settings)
    return record.visual_counts[0], record.visual_counts[-1]


@pytest.mark.parametrize("media", [1, 2])
@pytest.mark.parametrize("before", ["divprune", "random"])
def test_so_many_are_left_of_every_prompt(family, before, media):
    first, last = layers_of(family, family.batch([8, 12, 6], media), before=before, keep=KEEP)
    assert last == [KEEP] * 3
    assert all(count > KEEP for count in first)


@pytest.mark.parametrize("family", ["video_llava", "llava_onevision", "qwen2_5_vl"], indirect=True)
def test_of_videos_too(family):
    first, last = layers_of(family, family.video_batch([8]), before="random", keep=KEEP)
    assert last == [KEEP] < first


@pytest.mark.parametrize("before", ["cls", "divprune"])
@pytest.mark.parametrize(("keep", "split"), [(6, 0.5), (6, 0.25), (6, 1), (20, 0.5), (21, 1), (22, 1), (0, 0.5)])
def test_the_first_goes_its_share_of_the_way(before, keep, split):
    """From all that an image's tiles bring: N (k/N)^split, shared out exactly among the tiles of `cls`."""
    inputs = llava_next.batch([8])
    image = llava_next.LlavaNext(llava_next.make()).geometry(llava_next.SIZES[0])
    n = image.slots - image.newlines
    first, last = layers_of(llava_next, inputs, before=before, keep=keep, split=split)
    assert first == [round(n ** (1 - split) * keep**split) if keep else 0]
    assert last == [keep]


def test_more_than_there_are_keeps_all():
    image = llava_next.LlavaNext(llava_next.make()).geometry(llava_next.SIZES[0])
    first, last = layers_of(llava_next, llava_next.batch([8]), before="cls", keep=image.slots)
    assert first == last == [image.slots - image.newlines]


def test_a_batch_gives_what_its_samples_give():
    model, inputs = llava_next.make(), llava_next.batch([8, 12, 6], 2)
    with prune(model, "compose", before="cls", inside="pyramiddrop", keep=KEEP) as session:
        model(**inputs)
        counts, kept = session.record.visual_counts, session.record.kept
        for row in range(3):
            model(**llava_next.one_of(inputs, row))
            assert [count[0] for count in session.record.visual_counts] == [count[row] for count in counts]
            own = session.record.kept[0]
            assert torch.equal(own, kept[row, : len(own)])


@pytest.mark.parametrize("settings", [{"keep": KEEP}, {"keep": 30, "split": 1}, {"ratio": 0.7}])
def test_the_dry_run_foretells_it(settings):
    model, inputs = llava_next.make(), llava_next.batch([8])
    method = build_method("compose", before="cls", **settings)
    record = record_of(model, inputs, method)
    tensors = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    encoded = EncoderInput.from_tensors(adapt(model), tensors)
    counted = [counts[0] for counts in record.visual_counts]
    assert visual_by_layer(adapt(model), method, encoded) == counted
    shares = SequenceCost(adapt(model), method, method.before).shares(encoded)
    assert sum(kept for _, kept in shares) == counted[0]


def test_a_picture_knows_the_scores_of_every_tile():
    """Tiles of one shape may keep different numbers, and are then selected from one after the other."""
    model, inputs = llava_next.make(), llava_next.batch([8])
    trace = Trace(llava_next.slots(inputs)[0])
    method = build_method("compose", before="cls", keep=21, split=1)
    with Session(adapt(model), method, observer=trace) as session:
        model(**inputs)
    image = llava_next.LlavaNext(model).geometry(llava_next.SIZES[0])
    assert torch.equal(trace.scores.isnan(), image.slot_patches() < 0)
    tiles = image.slot_patches() // llava_next.SIDE**2
    for tile in range(image.tiles):  # what is kept of a tile are its best
        own, kept = tiles == tile, session.record.kept[0]
        if kept[own].any() and not kept[own].all():
            assert trace.scores[own & kept].min() >= trace.scores[own & ~kept].max()
