"""InternVL beyond the guarantees of every family: which patches a token is made of, tiles, refusals."""

from __future__ import annotations

import pytest
import torch

from tests.families import internvl
from tests.families.test_guarantees import generate
from tests.toy_models import record_of
from vlmprune import prune
from vlmprune.engine.hooks import AttentionProbe, attention_rows
from vlmprune.errors import UserError
from vlmprune.methods.compose import Compose
from vlmprune.methods.divprune import DivPrune
from vlmprune.models.base import adapt


def test_a_token_is_the_patches_that_pixel_shuffle_joins():
    """Patch ids written into the features come out in the order and groups in which `per_token` averages."""
    model = internvl.make()
    ids = torch.arange(2 * 12 * 12, dtype=torch.float32).view(2, 12, 12)
    shuffled = model.model.pixel_shuffle(ids.unsqueeze(3).repeat(1, 1, 1, 4), 0.5)  # [2, 6, 6, 16]
    expected = shuffled.mean(dim=3).flatten()
    assert torch.equal(adapt(model).per_token([ids.view(2, 1, 144)])[0], expected)
    keys = ids.view(2, 1, 144, 1).expand(-1, 3, -1, 5)  # heads and head width stay
    assert torch.equal(adapt(model).per_token([keys])[1, :, 4], expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_cls_keeps_the_tokens_of_the_best_rated_patches(attention):
    model, inputs = internvl.make(attention), internvl.batch([8, 9], media=2)
    rows = []
    probe = AttentionProbe(
        adapt(model).vision_attentions(3)[0],
        lambda query, key, mask, scaling: rows.append(attention_rows(query[:, :, :1], key, mask, scaling)),
    )
    model(**inputs)
    probe.remove()
    patches = rows[0][:, :, 0, 1:].mean(dim=1).view(-1, 6, 2, 6, 2)
    score = patches.mean(dim=(2, 4)).flatten(1)  # of each tile's tokens
    best = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(9).indices, True)
    record = record_of(model, inputs, "cls", keep=9)
    per_prompt = best.split([count // 36 for count in internvl.slots(inputs)])
    for kept, tiles in zip(record.kept, per_prompt, strict=True):
        assert torch.equal(kept, tiles.flatten())


def test_tiles_of_a_picture_but_the_thumbnail_are_detail():
    inputs = internvl.batch([8, 9], media=2)  # one and three tiles, three and one
    visual = inputs["input_ids"] == internvl.IMAGE
    detail = adapt(internvl.make()).detail(visual)
    assert not (detail & ~visual).any()
    assert detail[0][visual[0]].view(4, 36).all(1).tolist() == [False, True, True, False]
    assert detail[1][visual[1]].view(4, 36).all(1).tolist() == [True, True, False, False]
    assert detail.sum() == 4 * 36


@pytest.mark.parametrize("method", [DivPrune(ratio=0.5, scope="image"), Compose(0.5, before=DivPrune(scope="image"))])
def test_ranking_a_whole_picture_is_refused(method):
    with pytest.raises(UserError, match="scope=image"):
        prune(internvl.make(), method)


@pytest.mark.parametrize("texts", [[8, 12], [8]])
def test_a_static_cache_works_before_the_decoder(texts):
    """Whose mask generate() passes once for every kind of layer that Qwen2 may have."""
    model, inputs = internvl.make(), internvl.batch(texts)
    with prune(model, "cls", ratio=0.8):
        assert torch.equal(generate(model, inputs, cache_implementation="static"), generate(model, inputs))
