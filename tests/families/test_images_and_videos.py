"""Families that take images and videos: each, both in one prompt, both in one batch, and prompts without either."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.families.test_guarantees import check_masked, check_ratio_0, check_samples, generate, methods_of
from tests.toy_models import inputs_of, record_of
from vlmprune import prune
from vlmprune.models.base import adapt

FAMILIES = ["video_llava", "llava_onevision"]
QWEN = ["qwen2_5_vl", "qwen3_vl"]
FEW = ("cls", "divprune", "fastv", "pyramiddrop", "random", "uniform", "compose")
PAIRS = [(family, name) for family in FAMILIES for name in methods_of(family)]
PAIRS += [(family, name) for family in QWEN for name in FEW]

of = partial(pytest.mark.parametrize, "family", indirect=True)


@of([*FAMILIES, *QWEN])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_ratio_0_is_bit_identical(family, attention):
    for inputs in (family.video_batch([12, 14]), family.mixed_batch()):
        names = ("none", "cls", "fastv", "divprune", "uniform", "compose")
        check_ratio_0(family.make(attention), inputs, names, family.slots)


@pytest.mark.parametrize(("family", "name"), PAIRS, indirect=["family"])
def test_a_batch_gives_what_its_samples_give(family, name):
    model = family.make()
    for inputs in (family.video_batch([12, 15, 13]), family.mixed_batch()):
        check_samples(family, model, name, inputs)


def decoder_input(model, inputs):
    """Embeddings [B, L, D] at decoder layer 0."""
    with inputs_of(adapt(model).language_model.layers[0]) as seen:
        model(**inputs)
    return seen[0]


@of(FAMILIES)
@pytest.mark.parametrize("method", ["cls", "divprune", "random", "uniform"])
def test_a_kept_slot_holds_what_the_bare_model_has_there(family, method):
    """Every slot of a random model is unlike any other, so this pins tokens to slots."""
    model, inputs = family.make(), family.mixed_batch()
    bare = decoder_input(model, inputs)
    with prune(model, method, ratio=0.6) as session:
        shorter = decoder_input(model, inputs)
    visual = inputs["input_ids"] >= family.IMAGE
    for row, kept in enumerate(session.record.kept):
        stays = inputs["attention_mask"][row].bool()
        stays[visual[row]] = kept[: int(visual[row].sum())]
        expected = bare[row][stays]
        torch.testing.assert_close(shorter[row, -len(expected) :], expected, rtol=0, atol=1e-5)
    distances = torch.cdist(bare[0][visual[0]], bare[0][visual[0]])
    newlines = distances < 1e-3  # the only slots that are alike
    assert newlines.fill_diagonal_(False).any(1).sum() < len(newlines) / 4


@of(FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_dropped_inside_the_decoder_equals_masked(family, attention):
    check_masked(family.make(attention), family.prompts([8, 7, 9, 8], family.MIXED, 0), "fastv")


@of(FAMILIES)
def test_beams_over_videos(family):
    model, inputs = family.make(), family.video_batch([8, 12])
    with prune(model, "cls", ratio=0.6):
        beams = generate(model, inputs, num_beams=3)
        assert torch.equal(beams[1], generate(model, family.one_of(inputs, 1), num_beams=3)[0])


@of(FAMILIES)
def test_no_visual_token_at_all(family):
    """The blind baseline leaves no newline and no [CLS] of a frame behind."""
    model, inputs = family.make(), family.mixed_batch()
    words = [9, 6, 8, 12]
    record = record_of(model, inputs, "uniform", ratio=1)
    assert record.prompt_lengths == words


@of(FAMILIES)
@pytest.mark.parametrize("broken", [0, 1])
def test_features_that_are_not_finite_are_refused_in_either_encoding(family, broken):
    """Their NaN must not pass for the mark of a dropped token, whichever of the two encodings they come from."""
    model, inputs = family.make(), family.prompts([9], ["vi"], 0)
    name = [name for name in inputs if name.startswith("pixel_values")][broken]
    inputs[name] = torch.full_like(inputs[name], torch.nan)
    with prune(model, "uniform", ratio=0.5), pytest.raises(RuntimeError, match="not finite"):
        model(**inputs)
