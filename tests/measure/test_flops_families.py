"""The analytic formula against torch's own counter for every model family, on eager models, part by part."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.families.test_guarantees import FAMILIES, methods_of
from tests.measure.meter import compare, encoded_of
from vlmprune.measure.encoder import Encoded, EncoderSizes
from vlmprune.measure.flops import question_flops
from vlmprune.measure.selection_flops import Uncountable
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.divprune import DivPrune
from vlmprune.methods.fastv import FastV
from vlmprune.methods.none import Unpruned
from vlmprune.methods.scm import ScaleCompression
from vlmprune.models.base import adapt
from vlmprune.pruning.session import Session
from vlmprune.registry import build_method

FIRST = [Unpruned(), ClsAttention(ratio=0.6), DivPrune(ratio=0.6), FastV(ratio=0.6)]
OTHERS = [
    (family, name)
    for family in FAMILIES
    for name in methods_of(family)
    if name not in ("cls", "divprune", "fastv", "scm")
]


def name_of(method):
    return type(method).__name__


@pytest.mark.parametrize("method", FIRST, ids=name_of)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_equals_torchs_counter(family, method):
    module = import_module(f"tests.families.{family}")
    model = module.make("eager")
    compare(model, method, module.batch([9]))
    compare(model, method, module.batch([9], 2))
    if getattr(module, "video_batch", None) is not None:
        compare(model, method, module.video_batch([9]))


@pytest.mark.parametrize("family, name", OTHERS)
def test_other_methods_too(family, name):
    module = import_module(f"tests.families.{family}")
    compare(module.make("eager"), build_method(name, ratio=0.6), module.batch([9]))
