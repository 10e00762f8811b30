"""Compiled parts on a GPU, where they are CUDA graphs: recorded once a shape, replayed on other prompts."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_llava
from tests.engine.test_compiled import fresh_compiler  # noqa: F401  (a fixture)
from tests.families import llava
from tests.families.test_compiled_parts import answers
from tests.families.test_guarantees import method_of
from tests.gpu.conftest import DEVICE, batch_of, placed
from vlmprune.engine.compiled import CompiledModel
from vlmprune.models.base import adapt

pytestmark = pytest.mark.gpu

BACKEND = None if DEVICE.type == "cuda" else "eager"  # inductor with CUDA graphs
TEXTS = ([9, 6], [14, 3], [5, 5], [30, 12], [9, 6], [22, 22])


def test_replays_give_the_answers_of_the_model_as_it_is():
    model = placed(llava, torch.float32)
    adapter, method = adapt(model), method_of("cls")
    compiled = CompiledModel(adapter, BACKEND)
    for texts in TEXTS:
        inputs = batch_of(llava, torch.float32, texts)
        plain, record = answers(adapter, method, inputs)
        fast, own = answers(adapter, method, inputs, compiled)
        assert torch.equal(fast, plain), texts
        assert torch.equal(own.kept, record.kept) and own.visual_counts == record.visual_counts


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["cls", "none"])
def test_half_precision_is_as_near_to_float32_as_uncompiled(name, dtype):
    """With heads of 128, as kernels of half precision want them; padding, which sees nothing else, is a number."""
    method = method_of(name)
    exact = adapt(make_llava("sdpa", layers=2, width=512).to(DEVICE))
    adapter = adapt(make_llava("sdpa", layers=2, width=512).to(DEVICE, dtype))
    compiled = CompiledModel(adapter, BACKEND)
    options = {"return_dict_in_generate": True, "output_logits": True}
    for texts in TEXTS[:3]:
        first = answers(exact, method, batch_of(llava, torch.float32, texts), **options)[0].logits[0]
        inputs = batch_of(llava, dtype, texts)
        plain, record = answers(adapter, method, inputs, **options)
        fast, own = answers(adapter, method, inputs, compiled, **options)
        assert all(logits.isfinite().all() for logits in fast.logits)
        assert own.visual_counts == record.visual_counts
        errors = [(output.logits[0].float() - first).norm() / first.norm() for output in (plain, fast)]
        assert errors[1] < 1.5 * errors[0] + 1e-3, errors
