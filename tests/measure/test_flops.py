"""The analytic formula against torch's own counter, part by part, on eager models, where it sees every product."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, LlavaForConditionalGeneration

from tests.conftest import make_batch, make_llava
from vlmprune.measure.flops import decoder_layer, encoder_layer, question_flops
from vlmprune.methods.base import ScoreMethod
from vlmprune.methods.cdpruner import CDPruner
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.compose import Compose
from vlmprune.methods.divprune import DivPrune
from vlmprune.methods.fastv import FastV
from vlmprune.methods.none import Unpruned
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.pool import Pool
from vlmprune.methods.prumerge import PruMerge
from vlmprune.methods.prumerge_plus import PruMergePlus
from vlmprune.methods.pyramiddrop import PyramidDrop
from vlmprune.methods.random import Random
from vlmprune.methods.sparsevlm import SparseVLM
from vlmprune.methods.sparsevlm_plus import SparseVLMPlus
from vlmprune.methods.tome import ToMe
from vlmprune.methods.uniform import Uniform
from vlmprune.methods.visionzip import VisionZip
from vlmprune.methods.vispruner import VisPruner
from vlmprune.methods.vtc_cls import VtcCls
from vlmprune.models.base import adapt
from vlmprune.models.clip_text import TextTower
from vlmprune.models.llava import describe_tower
from vlmprune.pruning.session import Session


class Received(ScoreMethod):
    """A method of the user's, without [CLS]."""

    needs = ("received_attention",)

    def score(self, signals):
        return signals.received_attention[-1].mean(dim=1)


STAGES = {"layer_list": (2, 4, 5), "published_depth": 6}
WORDS = {"layers": (1, 2, 4), "published_depth": 6}
METHODS = [
    Unpruned(),
    Random(ratio=0.75),
    Uniform(keep=9),
    Pool(keep=9),
    Received(keep=9),
    ClsAttention(ratio=0.75),
    ClsAttention(ratio=1),
    VtcCls(ratio=0.75),
    VisPruner(keep=9),
    VisionZip(keep=9),
    VisionZip(keep=1),
    PruMerge(keep=9),
    PruMergePlus(keep=9),
    DivPrune(keep=9),
    DivPrune(ratio=1),
    CDPruner(keep=9),
    ToMe(keep=9),
    PiToMe(keep=9),
    ToMe(layer_ratio=0.75),
    PiToMe(ratio=1),
    FastV(ratio=0.5),
    FastV(ratio=0.5, budget="average"),
    PyramidDrop(**STAGES),
    SparseVLM(**WORDS, ratio=0.8),
    SparseVLM(**WORDS, recycle=False),
    SparseVLMPlus(**WORDS),
    Compose(ratio=0.8),
    Compose(before=ToMe(), inside=PyramidDrop(**STAGES), ratio=0.8),
]
ADAPTIVE = [PruMerge(), PruMergePlus()]  # images keep different numbers, so that only one can be foretold


def name_of(method):
    return type(method).__name__


class Meter:
    """Adds what torch counts to the innermost part that is running; an engine's clock, too."""

    def __init__(self, counter):
        self.counter, self.parts, self.running, self.seen = counter, Counter(), ["other"], 0

    @contextmanager
    def __call__(self, part):
        self._settle()
        self.running.append(part)
        yield
        self._settle()
        self.running.pop()

    def _settle(self):
        now = self.counter.get_total_flops()
        self.parts[self.running[-1]] += now - self.seen
        self.seen = now

    def watch(self, module, names):
        """Count `module` under one name after the other, call by call, the last for good."""
        forward, names = module.forward, list(names)

        def watched(*args, **kwargs):
            with self(names.pop(0) if len(names) > 1 else names[0]):
                return forward(*args, **kwargs)

        module.forward = watched


def make_text_tower():
    """A CLIP whose vision width is that of the tiny LLaVA, and a tokenizer of one fixed segment."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = sizes | {"num_hidden_layers": 2, "vocab_size": 99, "eos_token_id": 98}
    config = CLIPConfig(text_config=text, vision_config=sizes | {"num_hidden_layers": 0}, projection_dim=16)
    return TextTower(
        CLIPModel._from_config(config, attn_implementation="eager"),
        lambda question, **_: {"input_ids": [1, 5, 98]},
    )


def compare(model, method, images):
    """Formula and counter, part by part, on a question of 9 words and 3 new tokens."""
    words, new = 9, 3
    tower, clip = describe_tower(model.config), None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        meter = Meter(counter)
        meter.watch(model.model.vision_tower, ["vision"])
        meter.watch(model.model.multi_modal_projector, ["projector"])
        meter.watch(model.model.language_model, ["prefill", "decode"])
        meter.watch(model.lm_head, ["prefill", "decode"])
        reads_text = "text_relevance" in method.needs
        text_tower = make_text_tower() if reads_text else None
        with Session(adapt(model), method, meter, text_tower) as session:
            session.ask(["which?"])
            model.generate(
                **make_batch([words], images), max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None
            )
    if text_tower is not None:
        clip = text_tower.clip.config
    visual = [counts[0] for counts in session.record.visual_counts]
    formula = question_flops(model.config, tower, method, visual, words, new, images, clip).as_dict()
    counted = dict(meter.parts)
    counted["selection"] = counted.get("selection", 0) + counted.pop("other")  # the engine's, outside any module
    assert formula.pop("total") == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert formula == pytest.approx(dict.fromkeys(formula, 0) | counted, rel=0.01)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_every_part_equals_torchs_counter(method, images):
    compare(make_llava("eager"), method, images)


@pytest.mark.parametrize("method", ADAPTIVE, ids=name_of)
def test_adaptive_methods_too(method):
    compare(make_llava("eager"), method, images=1)


@pytest.mark.parametrize("method", [FastV(ratio=0.5), PyramidDrop(**STAGES), SparseVLMPlus(**WORDS)], ids=name_of)
def test_heads_may_be_wider_than_the_decoder(method):
    config = make_llava().config
    config.text_config.head_dim = 16  # times 4 heads, on a width of 32
    torch.manual_seed(0)
    compare(LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval(), method, images=1)


def test_text_relevance_is_not_forgotten():
    model = make_llava()
    with pytest.raises(ValueError, match="text_relevance"):
        question_flops(model.config, describe_tower(model.config), CDPruner(keep=9), [9] * 6, 9, 1)


def test_one_layer_by_hand():
    # 3 tokens, width 4, MLP 8: projections 4 x (3x4x4), MLP 2 x (3x4x8), attention 2 x (3x3x4); two FLOPs each
    assert encoder_layer(3, 4, 8) == 2 * (4 * 48 + 2 * 96 + 2 * 36)


def test_grouped_keys_cost_less():
    model = make_llava()
    text = model.config.text_config
    # width 32, keys and values of half that, MLP 64; 10 tokens attending to 10
    assert decoder_layer(10, 10, text) == 2 * 10 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 4 * 10 * 10 * 32


def test_pruning_by_cls_costs_one_row():
    model = make_llava()
    tower = describe_tower(model.config)
    flops = question_flops(model.config, tower, ClsAttention(ratio=0.5), [18] * 6, 9, 1)
    assert flops.selection == 2 * 37 * 32
    assert flops.vision < question_flops(model.config, tower, Unpruned(), [36] * 6, 9, 1).vision
