"""Merging inside the vision encoder. The guarantees of every method are in tests/families."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlavaForConditionalGeneration

from tests.conftest import IMAGE_TOKEN, PATCHES, make_batch, make_llava
from tests.methods.golden import MERGED, Vectors
from tests.toy_models import toy_llava
from vlmprune import prune
from vlmprune.errors import UserError
from vlmprune.measure.flops import question_flops
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.tome import ToMe
from vlmprune.models.base import EncoderInput, adapt
from vlmprune.models.families.llava import describe_tower

METHODS = ["tome", "pitome"]


class Seen:
    """Inputs of the encoder layers and of the projector, recorded by hooks of the test's own."""

    def __init__(self, model) -> None:
        self.lengths: list[int] = []
        self.projected: torch.Tensor
        layers = model.model.vision_tower
        layers = getattr(layers, "vision_model", layers).encoder.layers
        self.handles = [layer.self_attn.register_forward_pre_hook(self._layer, with_kwargs=True) for layer in layers]
        self.handles.append(model.model.multi_modal_projector.register_forward_hook(self._projector))

    def _layer(self, _module, args, kwargs) -> None:
        self.lengths.append((args[0] if args else kwargs["hidden_states"]).shape[1])

    def _projector(self, _module, args, _output) -> None:
        (self.projected,) = args

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_) -> None:
        for handle in self.handles:
            handle.remove()


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
    with prune(model, name, layer_ratio=0.9) as session, Seen(model) as seen:
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 48, 48))
    expected = vectors[f"{name}_llava_tokens"]
    assert seen.lengths == vectors[f"{name}_lengths"].tolist()[:23]  # the last layer is not run
    torch.testing.assert_close(seen.projected, expected, **MERGED)
    assert session.record.visual_counts == [[expected.shape[1]]]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 27), (0.5, 18), (0.9, 4), (1, 0)])
def test_kept_count_is_exact(name, ratio, kept):
    model = make_llava()
    with prune(model, name, ratio=ratio) as session, Seen(model) as seen:
        model(**make_batch([8, 12]))
    assert session.record.visual_counts == [[kept, kept]] * 6
    assert session.record.kept.shape == (2, PATCHES)
    assert session.record.kept.sum(1).tolist() == [kept, kept]
    assert seen.projected.shape[:2].numel() == 2 * kept


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


@pytest.mark.parametrize("name", METHODS)
def test_text_only_prompts_are_untouched(name):
    model, ids = make_llava(), torch.randint(3, 97, (2, 9))
    bare = model(input_ids=ids).logits
    with prune(model, name, ratio=0.9):
        assert torch.allclose(model(input_ids=ids).logits, bare, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_overflowing_features_are_refused(name):
    batch = make_batch([8])
    batch["pixel_values"][0, 0, 0, 0] = torch.nan
    model = make_llava()
    with prune(model, name, ratio=0.5), pytest.raises(RuntimeError, match="not finite"):
        model(**batch)


@pytest.mark.parametrize("method", [ToMe(keep=9), PiToMe(keep=9), ToMe(layer_ratio=0.75), PiToMe(ratio=1)])
def test_formula_equals_torchs_counter(method):
    model = make_llava("eager")
    with FlopCounterMode(display=False) as counter, prune(model, method) as session:
        model.generate(**make_batch([9]), max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None)
    visual = [counts[0] for counts in session.record.visual_counts]
    encoded = EncoderInput.from_tensors(adapt(model), {"pixel_values": make_batch([9])["pixel_values"]})
    formula = question_flops(adapt(model), method, encoded, visual, 9, 3)
    assert formula.total == pytest.approx(counter.get_total_flops(), rel=0.01)
