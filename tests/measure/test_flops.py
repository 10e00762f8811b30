"""The analytic formula against torch's own counter, on eager models, where the counter sees every product."""

from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import PATCHES, make_batch, make_llava
from vlmprune import prune
from vlmprune.measure.flops import decoder_layer, encoder_layer, question_flops
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV
from vlmprune.methods.none import Unpruned
from vlmprune.models.llava import describe_tower


def counted(model, method, new):
    batch = make_batch([9])
    with FlopCounterMode(display=False) as counter, prune(model, method):
        model.generate(**batch, max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None)
    return counter.get_total_flops()


@pytest.mark.parametrize("new", [1, 5])
@pytest.mark.parametrize(
    ("method", "visual"),
    [
        (Unpruned(), [PATCHES] * 6),
        (ClsAttention(ratio=0.75), [9] * 6),
        (FastV(ratio=0.5), [PATCHES] * 2 + [18] * 4),
    ],
)
def test_formula_equals_torchs_counter(method, visual, new):
    model = make_llava("eager")
    formula = question_flops(model.config, describe_tower(model.config), method, visual, 9, new)
    assert formula.total == pytest.approx(counted(model, method, new), rel=0.01)


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
