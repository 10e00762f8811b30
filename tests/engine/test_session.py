"""Counts, positions and caches of a pruned LLaVA. What holds for every family is in tests/families."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import PATCHES, make_batch
from tests.families.test_guarantees import GREEDY, NEW, generate
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.methods.cls import ClsAttention


@pytest.mark.parametrize("name", ["cls", "random", "uniform"])
@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 27), (0.5, 18), (0.9, 4), (0.99, 1), (1, 0)])
def test_kept_count_is_exact(sdpa_model, name, ratio, kept):
    record = record_of(sdpa_model, make_batch([8, 12]), name, ratio=ratio)
    assert record.visual_counts == [[kept, kept]] * 6
    assert record.prompt_lengths == [8 + kept, 12 + kept]
    assert record.kept.shape == (2, PATCHES)
    assert record.kept.sum(1).tolist() == [kept, kept]


@pytest.mark.parametrize("rule", ["renumber", "keep"])
def test_dropping_before_the_decoder_equals_masking(model, rule):
    """Kept positions: the same as hiding the dropped tokens by mask. Renumbered: as a prompt written shorter."""
    batch = make_batch([8, 11])
    method = ClsAttention(ratio=0.7, positions=rule)
    with prune(model, method) as session:
        pruned = model(**batch).logits
        cached = generate(model, batch)
    visual = batch["input_ids"] == 98
    mask = batch["attention_mask"].bool().masked_scatter(visual, session.record.kept)
    positions = torch.arange(mask.shape[1]).expand_as(mask)
    if rule == "renumber":
        positions = positions - (visual & ~mask).cumsum(1)
    reference = model(**batch | {"attention_mask": mask.long()}, position_ids=positions).logits
    assert torch.allclose(pruned[:, -1], reference[:, -1], atol=2e-4)
    ids, positions = batch["input_ids"], (positions + 0)
    for _ in range(NEW):  # decode by re-running the whole masked prompt
        logits = model(
            input_ids=ids, attention_mask=mask.long(), position_ids=positions, pixel_values=batch["pixel_values"]
        ).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, mask.new_ones(2, 1)], 1)
        positions = torch.cat([positions, positions[:, -1:] + 1], 1)
    # generate counts positions from the first real token; plain forward from the padding: rotary attention is relative.
    assert torch.equal(ids[:, -NEW:], cached)


@pytest.mark.parametrize(("rule", "contiguous"), [("published", False), ("keep", False), ("renumber", True)])
def test_positions_inside_the_decoder_are_kept_or_renumbered(sdpa_model, rule, contiguous):
    seen = []

    def see(_layer, _args, kwargs):
        seen.append(kwargs["position_ids"])

    with prune(sdpa_model, "fastv", keep=5, positions=rule):
        handle = sdpa_model.model.language_model.layers[3].register_forward_pre_hook(see, with_kwargs=True)
        sdpa_model.generate(**make_batch([8, 8]), **GREEDY)
        handle.remove()
    prompt, first = seen[0], seen[1]
    assert prompt.shape == (2, 13)
    assert bool((prompt.diff(dim=1) == 1).all()) == contiguous
    assert torch.equal(first, prompt[:, -1:] + 1)  # generation goes on where the prompt ended


def test_a_cache_that_the_model_made_can_be_gone_on_with(sdpa_model):
    batch = make_batch([8])
    with prune(sdpa_model, "fastv", ratio=0.5):
        out = sdpa_model(**batch, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
        second = sdpa_model(input_ids=token, past_key_values=out.past_key_values).logits[:, -1].argmax(-1)
        expected = generate(sdpa_model, batch)
    assert torch.equal(torch.cat([token[:, 0], second]), expected[0, :2])


def test_the_record_says_what_selecting_took(sdpa_model):
    record = record_of(sdpa_model, make_batch([8]), "cls", ratio=0.5)
    assert 0 < record.selection_ms < 10_000
    record = record_of(sdpa_model, make_batch([8]), "none")
    assert record.selection_ms == 0
    assert record.kept.tolist() == [[True] * PATCHES]  # as README's snippet reads it, also with "none"


def test_the_record_of_an_unpruned_batch_keeps_every_slot(sdpa_model):
    kept = record_of(sdpa_model, make_batch([8, 3], images=2), "none").kept
    assert kept.tolist() == [[True] * 2 * PATCHES] * 2


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop"])
def test_keep_inside_the_decoder_counts_all_images_of_a_prompt(sdpa_model, name):
    record = record_of(sdpa_model, make_batch([8], images=2), name, keep=PATCHES)
    assert record.visual_counts[0] == [2 * PATCHES]
    assert record.visual_counts[-1] == [PATCHES]


@pytest.mark.parametrize("ratio", [0, 0.5])
def test_a_generate_of_the_users_own_survives(sdpa_model, ratio):
    bound = sdpa_model.generate
    sdpa_model.generate = wrapper = lambda *args, **kwargs: bound(*args, **kwargs)
    with prune(sdpa_model, "cls", ratio=ratio):
        generate(sdpa_model, make_batch([8]))
    assert vars(sdpa_model)["generate"] is wrapper


def test_text_only_prompts_are_untouched(sdpa_model):
    ids = torch.randint(3, 97, (2, 9))
    bare = sdpa_model(input_ids=ids).logits
    for name in ("cls", "fastv", "tome", "pitome"):
        with prune(sdpa_model, name, ratio=0.9):
            assert torch.allclose(sdpa_model(input_ids=ids).logits, bare, atol=1e-5)


def test_unread_vision_layers_are_skipped(sdpa_model):
    calls = []
    last = sdpa_model.model.vision_tower.encoder.layers[-1]
    with prune(sdpa_model, "cls", ratio=0.5):
        handle = last.mlp.register_forward_hook(lambda *_: calls.append(1))
        sdpa_model(**make_batch([8]))
        handle.remove()
    assert not calls


def test_random_depends_on_the_image_and_the_seed_only(sdpa_model):
    batch = make_batch([8, 12])
    kept = []
    for method in (build_method("random", ratio=0.5), build_method("random", ratio=0.5, seed=1)):
        with prune(sdpa_model, method) as session:
            sdpa_model(**batch)
            kept.append(session.record.kept)
            swapped = {key: value.flip(0) for key, value in make_batch([8, 8]).items()}
            sdpa_model(**swapped | {"pixel_values": batch["pixel_values"].flip(0)})
            assert torch.equal(session.record.kept.flip(0), kept[-1])
    assert not torch.equal(*kept)
