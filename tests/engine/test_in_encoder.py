"""Merging inside the vision encoder. The guarantees of every method are in tests/families."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlavaForConditionalGeneration

from tests.conftest import IMAGE_TOKEN, PATCHES, make_batch, make_llava
from tests.methods.golden import MERGED, Vectors
from tests.toy_models import inputs_of, toy_llava
from vlmprune import prune
from vlmprune.errors import UserError
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.tome import ToMe
from vlmprune.models.families.llava import describe_tower

METHODS = ["tome", "pitome"]


def identity_llava(x: torch.Tensor) -> LlavaForConditionalGeneration:
    """24 encoder layers that change nothing, on `x` [1, 577, 64] instead of an image."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 24, "image_size": 48, "patch_size": 2, "projection_dim": 8}
    small = {"intermediate_size": 8, "num_attention_heads": 1}
    text = LlamaConfig(**small, hidden_size=8, num_hidden_layers=1, vocab_size=IMAGE_TOKEN + 1)
    model = toy_llava(text, IMAGE_TOKEN, small | sizes)
    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    with torch.no_grad():
        for layer in tower.encoder.layers:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                linear.weight.zero_()
                linear.bias.zero_()
    tower.pre_layrnorm.register_forward_hook(lambda *_: x)
    return model


@pytest.mark.parametrize("name", METHODS)
def test_llava_gets_what_the_authors_code_gives_it(name):
    vectors = Vectors("clip_llava_24layers_0.9")
    model = identity_llava(vectors["x"])
    ids = torch.tensor([[1, *[IMAGE_TOKEN] * 576, 2]])
    layers = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower).encoder.layers
    attentions, projector = inputs_of(*(layer.self_attn for layer in layers)), model.model.multi_modal_projector
    with prune(model, name, layer_ratio=0.9) as session, attentions as seen, inputs_of(projector) as projected:
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 48, 48))
    expected = vectors[f"{name}_llava_tokens"]
    assert [x.shape[1] for x in seen] == vectors[f"{name}_lengths"].tolist()[:23]  # the last layer is not run
    torch.testing.assert_close(projected[0], expected, **MERGED)
    assert session.record.visual_counts == [[expected.shape[1]]]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 27), (0.5, 18), (0.9, 4), (1, 0)])
def test_kept_count_is_exact(name, ratio, kept):
    model = make_llava()
    with prune(model, name, ratio=ratio) as session, inputs_of(model.model.multi_modal_projector) as projected:
        model(**make_batch([8, 12]))
    assert session.record.visual_counts == [[kept, kept]] * 6
    assert session.record.kept.shape == (2, PATCHES)
    assert session.record.kept.sum(1).tolist() == [kept, kept]
    assert projected[0].shape[:2].numel() == 2 * kept


@pytest.mark.parametrize("name", METHODS)
def test_a_count_that_halving_cannot_reach_is_refused(name):
    model = make_llava()
    with pytest.raises(UserError, match="allowed: 3 or more"), prune(model, name, ratio=0.99):
        pass
    with prune(model, name, ratio=0.5):
        pass  # the refusal above left nothing behind


@pytest.mark.parametrize("name", METHODS)
def test_the_decoder_sees_merged_tokens_in_their_order(model, name):
    """The tower by hand, layer by layer, and a prompt written with that many placeholders."""
    batch = make_batch([8])
    method = {"tome": ToMe, "pitome": PiToMe}[name](ratio=0.6)
    with prune(model, method):
        logits = model(**batch).logits[:, -1]

    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    hidden = tower.pre_layrnorm(tower.embeddings(batch["pixel_values"]))
    facts = describe_tower(model.config)
    for index, r in enumerate(method.merge_counts(facts, PATCHES)):
        hidden = tower.encoder.layers[index](hidden, None)
        hidden = method.match(hidden, r, index, facts).mean(hidden)
    tokens = model.model.multi_modal_projector(hidden[:, 1:])
    embeds = model.get_input_embeddings()(batch["input_ids"])
    embeds = torch.cat([embeds[:, :3], tokens, embeds[:, 3 + PATCHES :]], dim=1)
    assert torch.allclose(model(inputs_embeds=embeds).logits[:, -1], logits, atol=2e-4)


@pytest.mark.parametrize("name", METHODS)
def test_recorded_hidden_states_are_the_merged_ones(name):
    """transformers records by hooks that it installs at the first call: before ours or after, it sees the same."""
    batch = make_batch([8])
    recorded = []
    for used_before in (False, True):
        model = make_llava()
        if used_before:
            model(**batch)
        with prune(model, name, keep=12):
            out = model.model.vision_tower(batch["pixel_values"], output_hidden_states=True)
        recorded.append(out.hidden_states)
    assert [state.shape[1] for state in recorded[0]][-2] == 13
    for first, second in zip(*recorded, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", METHODS)
def test_where_each_patch_went(name):
    model = make_llava()
    with prune(model, name, keep=9) as session:
        assert session.owners is None  # nothing has been encoded yet
        model(**make_batch([8, 12]))
    assert session.owners.shape == (2, PATCHES)
    owners_of_kept = session.owners[session.record.kept].view(2, 9)  # each output token sits in its own group
    assert torch.equal(owners_of_kept.sort(dim=1).values, torch.arange(9).expand(2, -1))
    assert session.owners.unique().tolist() == list(range(9))
    with prune(model, "cls", keep=9) as session:
        assert session.owners is None
