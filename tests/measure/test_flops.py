"""The analytic formula against torch's own counter, part by part, on eager models, where it sees every product."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, LlavaForConditionalGeneration

from tests.conftest import make_batch, make_llava
from tests.measure.meter import compare
from vlmprune.config.registry import build_method
from vlmprune.measure.flops import decoder_layer, question_flops
from vlmprune.methods.base import ScoreMethod
from vlmprune.models.base import EncoderInput, EncoderSizes, UncountableFlops, adapt
from vlmprune.models.clip_text import TextTower


class Received(ScoreMethod):
    """A method of the user's, without [CLS]."""

    needs = ("received_attention",)

    def score(self, signals):
        return signals.received_attention[-1].mean(dim=1)


STAGES = {"layer_list": [2, 4, 5], "published_depth": 6}
WORDS = {"layers": [1, 2, 4], "published_depth": 6}
METHODS = [
    build_method("none"),
    build_method("random", ratio=0.75),
    build_method("uniform", keep=9),
    build_method("pool", keep=9),
    Received(keep=9),
    build_method("cls", ratio=0.75),
    build_method("cls", ratio=1),
    build_method("vtc_cls", ratio=0.75),
    build_method("vispruner", keep=9),
    build_method("visionzip", keep=9),
    build_method("visionzip", keep=1),
    build_method("prumerge", keep=9),
    build_method("prumerge_plus", keep=9),
    build_method("divprune", keep=9),
    build_method("divprune", ratio=1),
    build_method("cdpruner", keep=9),
    build_method("tome", keep=9),
    build_method("pitome", keep=9),
    build_method("tome", layer_ratio=0.75),
    build_method("pitome", ratio=1),
    build_method("fastv", ratio=0.5),
    build_method("fastv", ratio=0.5, budget="average"),
    build_method("pyramiddrop", **STAGES),
    build_method("sparsevlm", **WORDS, ratio=0.8),
    build_method("sparsevlm", **WORDS, recycle=False),
    build_method("sparsevlm_plus", **WORDS),
    build_method("compose", ratio=0.8),
    build_method("compose", before="tome", inside={"name": "pyramiddrop", **STAGES}, ratio=0.8),
]
PICTURE = EncoderInput(slots=36, newlines=0, tiles=[(6, 6)], projected=36, units=[[36]])
ADAPTIVE = ["prumerge", "prumerge_plus"]  # images keep different numbers, so that only one can be foretold


def name_of(method):
    return type(method).__name__


def make_text_tower():
    """A CLIP whose vision width is that of the tiny LLaVA, and a tokenizer of one fixed segment."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = sizes | {"num_hidden_layers": 2, "vocab_size": 99, "eos_token_id": 98}
    config = CLIPConfig(text_config=text, vision_config=sizes | {"num_hidden_layers": 0}, projection_dim=16)
    return TextTower(
        CLIPModel._from_config(config, attn_implementation="eager"),
        lambda question, **_: {"input_ids": [1, 5, 98]},
    )


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_every_part_equals_torchs_counter(method, images):
    text_tower = make_text_tower() if "text_relevance" in method.needs else None
    compare(make_llava("eager"), method, make_batch([9], images), text_tower)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_methods_too(name):
    compare(make_llava("eager"), build_method(name), make_batch([9]))


@pytest.mark.parametrize(
    ("name", "settings"), [("fastv", {"ratio": 0.5}), ("pyramiddrop", STAGES), ("sparsevlm_plus", WORDS)]
)
def test_heads_may_be_wider_than_the_decoder(name, settings):
    config = make_llava().config
    config.text_config.head_dim = 16  # times 4 heads, on a width of 32
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    compare(model, build_method(name, **settings), make_batch([9]))


def test_text_relevance_is_not_forgotten():
    model = make_llava()
    with pytest.raises(UncountableFlops, match="text_relevance"):
        question_flops(adapt(model), build_method("cdpruner", keep=9), PICTURE, [9] * 6, 9, 1)


def test_one_layer_by_hand():
    # 3 tokens, width 4, MLP 8: projections 4 x (3x4x4), MLP 2 x (3x4x8), attention 2 x (3x3x4); two FLOPs each
    sizes = EncoderSizes(4, 2, 0, 0, layer_macs=4 * 4 * 4 + 2 * 4 * 8, projector_macs=0, feature_width=4)
    assert sizes.layer_flops(3, 9) == 2 * (4 * 48 + 2 * 96 + 2 * 36)


def test_grouped_keys_cost_less():
    model = make_llava()
    text = model.config.text_config
    # width 32, keys and values of half that, MLP 64; 10 tokens attending to 10
    assert decoder_layer(10, 10, text) == 2 * 10 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 4 * 10 * 10 * 32


def test_pruning_by_cls_costs_one_row():
    model = make_llava()
    adapter = adapt(model)
    flops = question_flops(adapter, build_method("cls", ratio=0.5), PICTURE, [18] * 6, 9, 1)
    assert flops.selection == 2 * 37 * 32
    assert flops.vision < question_flops(adapter, build_method("none"), PICTURE, [36] * 6, 9, 1).vision
