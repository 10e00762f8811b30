"""Compiled parts on a GPU, where they are CUDA graphs: recorded once a shape, replayed on other prompts."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_llava
from tests.families import llava
from tests.families.test_guarantees import GREEDY, NEW
from tests.gpu.conftest import DEVICE, batch_of, placed
from vlmprune.config.registry import build_method
from vlmprune.engine.compiled import CompiledModel, FixedCache
from vlmprune.engine.session import Session
from vlmprune.models.base import adapt

pytestmark = pytest.mark.gpu

BACKEND = None if DEVICE.type == "cuda" else "eager"  # inductor with CUDA graphs
TEXTS = ([9, 6], [14, 3], [5, 5], [30, 12], [9, 6], [22, 22])


def answer(adapter, method, inputs, compiled=None, **options):
    """One generate(), compiled or not: its output and the record."""
    cache = {} if compiled is None else {"past_key_values": FixedCache(NEW)}
    with torch.no_grad(), Session(adapter, method) as session:
        if compiled is not None:
            compiled.attach(session)
        output = adapter.model.generate(**inputs, **GREEDY, **cache, **options)
    return output, session.record


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_replays_give_the_answers_of_the_model_as_it_is():
    model = placed(llava, torch.float32)
    adapter, method = adapt(model), build_method("cls", ratio=0.6)
    compiled = CompiledModel(adapter, BACKEND)
    for texts in TEXTS:
        inputs = batch_of(llava, torch.float32, texts)
        plain, record = answer(adapter, method, inputs)
        with compiled:
            fast, own = answer(adapter, method, inputs, compiled)
        assert torch.equal(fast, plain), texts
        assert torch.equal(own.kept, record.kept) and own.visual_counts == record.visual_counts


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["cls", "none"])
def test_half_precision_is_as_near_to_float32_as_uncompiled(name, dtype):
    """With heads of 128, as kernels of half precision want them; padding, which sees nothing else, is a number."""
    method = build_method(name, **({} if name == "none" else {"ratio": 0.6}))
    exact = adapt(make_llava("sdpa", layers=2, width=512).to(DEVICE))
    adapter = adapt(make_llava("sdpa", layers=2, width=512).to(DEVICE, dtype))
    compiled = CompiledModel(adapter, BACKEND)
    options = {"return_dict_in_generate": True, "output_logits": True}
    for texts in TEXTS[:3]:
        first = answer(exact, method, batch_of(llava, torch.float32, texts), **options)[0].logits[0]
        inputs = batch_of(llava, dtype, texts)
        plain, record = answer(adapter, method, inputs, **options)
        with compiled:
            fast, own = answer(adapter, method, inputs, compiled, **options)
        assert all(logits.isfinite().all() for logits in fast.logits)
        assert own.visual_counts == record.visual_counts
        errors = [(output.logits[0].float() - first).norm() / first.norm() for output in (plain, fast)]
        assert errors[1] < 1.5 * errors[0] + 1e-3, errors
