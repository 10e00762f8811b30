"""Selections are computed in float32 at least, from the query and key that a half-precision model really uses.

The model is a LLaVA with a Qwen2 decoder whose attention, in both parts, has a large term in common to all keys, as
trained ones have through the biases of q_proj and k_proj: in the model's own precision it rounds away what tells tokens
apart, or overflows. It stands in channels of its own, which RoPE leaves alone, so that nothing but the product is hard.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, Qwen2Config

from tests import toy_models
from vlmprune import prune
from vlmprune.engine import hooks, prompt_state, signals
from vlmprune.engine.hooks import attention_rows, full_precision
from vlmprune.methods import merging, sparsevlm, tensor_ops

IMAGE, SIDE, TEXT = 98, 14, 9
N, KEEP = SIDE**2, 56
WIDTH = 16  # of a head
CHANNELS = [WIDTH // 2 - 1, WIDTH - 1]  # a pair that RoPE turns most slowly
STAGES = {"layer_list": (2, 3, 4), "published_depth": 6}
WORDS = {"layers": (1, 2, 3), "published_depth": 6}
METHODS = {
    "fastv": {},
    "pyramiddrop": STAGES,
    "sparsevlm": WORDS,
    "sparsevlm_plus": WORDS,
    "cls": {},
    "vtc_cls": {},
    "vispruner": {},
    "visionzip": {},
}


def make(dtype: torch.dtype, common: float) -> LlavaForConditionalGeneration:
    """Random weights, rounded to `dtype`; every q.k of every layer has 2 `common`^2 in it, before scaling."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}
    text = Qwen2Config(**toy_models.TEXT | sizes, rope_parameters={"rope_type": "default", "rope_theta": 1e12})
    vision = sizes | {"num_hidden_layers": 5, "image_size": SIDE * 4, "patch_size": 4}
    model = toy_models.toy_llava(text, IMAGE, vision, scale=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(4 if "proj.weight" in name else 2)
            if "q_proj" in name or "k_proj" in name:  # weight [heads x WIDTH, ...] or bias
                parameter.unflatten(0, (-1, WIDTH))[:, CHANNELS] = common if "bias" in name else 0
    return model.to(dtype)


def prompt(dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(3, 97, (2, TEXT), generator=generator)
    ids = torch.cat([words[:, :3], torch.full((2, N), IMAGE), words[:, 3:]], dim=1)
    pixels = torch.rand(2, 3, SIDE * 4, SIDE * 4, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels.bfloat16().to(dtype)}


def kept(name: str, model: LlavaForConditionalGeneration, **settings: Any) -> Tensor:
    """bool [2, N]; of methods with several stages, after the last."""
    with torch.no_grad(), prune(model, name, keep=KEEP, **METHODS.get(name, {}), **settings) as session:
        model(**prompt(model.dtype))
    return session.record.kept


def use(monkeypatch: pytest.MonkeyPatch, rows: Any) -> None:
    """Let the engine compute its rows by `rows`."""
    for module in (prompt_state, signals):
        monkeypatch.setattr(module, "attention_rows", rows)


def double_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    return attention_rows(query.double(), key.double(), mask, scaling)


def half_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """In the model's dtype, as the published codes and eager attention do."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = query @ key.mT * scaling
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1, dtype=torch.float32)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("dtype", "common"), [(torch.bfloat16, 40), (torch.float16, 240)])
def test_the_choice_is_that_of_exact_rows(name, dtype, common, monkeypatch):
    """Rows of the very same query and key in float64; a near tie within float32's rounding may fall either way."""
    model = make(dtype, common)
    ours = kept(name, model)
    assert ours.sum(1).tolist() == [KEEP, KEEP]
    use(monkeypatch, double_rows)
    assert (ours & kept(name, model)).sum() >= 2 * KEEP - 2


@pytest.mark.parametrize("name", ["fastv", "sparsevlm_plus", "cls", "visionzip"])
@pytest.mark.parametrize(("dtype", "common"), [(torch.bfloat16, 40), (torch.float16, 240)])
def test_the_choice_is_nearly_that_of_the_float32_model(name, dtype, common, monkeypatch):
    """The difference is what the model rounds on its way to query and key; rows in its dtype keep a random choice."""
    model = make(dtype, common)
    assert model(**prompt(dtype)).logits.isfinite().all()
    full = kept(name, make(dtype, common).float())
    assert (kept(name, model) & full).sum() >= 100
    use(monkeypatch, half_rows)
    try:
        assert (kept(name, model) & full).sum() <= 80
    except RuntimeError as refusal:  # float16 overflowed
        assert "not finite" in str(refusal) or "nan" in str(refusal)


def random_attention(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = 30 * torch.randn(2, 4, 3, WIDTH, generator=generator)
    return query.to(dtype), (30 * torch.randn(2, 2, 20, WIDTH, generator=generator)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_additive_masks_hide_what_bool_masks_hide(dtype):
    """-65504, the least of float16, is no more than a logit of float32 may be."""
    query, key = random_attention(dtype)
    key[:, :, :5] *= 1000 if dtype != torch.float16 else 40
    seen = torch.ones(2, 1, 3, 20, dtype=torch.bool)
    seen[0, :, :, :5] = seen[1, :, 1, 3] = False
    additive = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    expected = attention_rows(query, key, seen, 1.0)
    assert expected.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for hidden in (torch.finfo(dtype).min, -torch.inf):
        additive = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, hidden)
        assert torch.equal(attention_rows(query, key, additive, 1.0), expected)
    assert not expected[~seen.expand_as(expected)].any()


def test_received_attention_takes_one_mask_for_all_rows():
    query, key = random_attention(torch.float32)
    seen = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    seen[0, ..., :4] = False
    together = signals.received_attention(query, key, seen, 0.25)
    torch.testing.assert_close(signals.received_attention(query, key, seen, 0.25, rows=2), together)
    torch.testing.assert_close(together, attention_rows(query, key, seen, 0.25).mean(dim=2))


def test_many_groups_are_copied_part_by_part(monkeypatch):
    query, key = random_attention(torch.bfloat16)
    whole = attention_rows(query, key, None, 0.25)
    monkeypatch.setattr(hooks, "COPIED", 1)
    assert torch.equal(attention_rows(query, key, None, 0.25), whole)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_callers_precision_is_that_of_the_model_alone(precision, monkeypatch):
    """Neither autocast nor torch.set_float32_matmul_precision reaches what selects, and both are given back."""
    query, key = random_attention(torch.float32)
    alone = attention_rows(query, key, None, 0.25)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(attention_rows(query, key, None, 0.25), alone)
            with full_precision(query.device):
                assert (query @ query.mT).dtype == torch.float32
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert (query @ query.mT).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ["divprune", "vispruner", "visionzip", "prumerge", "tome", "sparsevlm_plus"])
def test_methods_multiply_in_full_precision_under_autocast(name, monkeypatch):
    """Every product of a method's own is of float32, though the model's are of bfloat16."""
    kinds = set()
    for module in (tensor_ops, merging, sparsevlm):
        monkeypatch.setattr(module, "at_least_float32", noted(kinds, module.at_least_float32))
    with torch.autocast("cpu", torch.bfloat16):
        kept(name, make(torch.float32, 0))
    assert kinds == {False}


def noted(kinds: set[bool], function: Any) -> Any:
    def called(x: Tensor) -> Tensor:
        kinds.add(torch.is_autocast_enabled("cpu"))
        return function(x)

    return called
