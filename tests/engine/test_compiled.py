"""Compiled models inside a session: dynamo does not look at hooks, so nothing compiled may run there."""

from __future__ import annotations

import copy
import inspect
import warnings
from functools import partial

import pytest
import torch
from transformers import CompileConfig

from tests.conftest import make_batch, make_llava
from tests.families.test_guarantees import GREEDY, generate, snapshot
from vlmprune import prune

METHODS = ("cls", "pyramiddrop", "tome", "compose")


def compiled_parts():
    """A compiled model, or one with a compiled part, as its user holds it: what `prune` is given, what is called."""

    def whole(model):
        model.compile(backend="eager")
        return model, model

    def wrapped(model):
        compiled = torch.compile(model, backend="eager")
        return compiled, compiled

    def beside(model):
        return model, torch.compile(model, backend="eager")

    def forward(model):
        model.forward = torch.compile(model.forward, backend="eager")
        return model, model

    def decoder(model):
        model.model.language_model = torch.compile(model.model.language_model, backend="eager")
        return model, model

    def encoder(model):
        model.model.vision_tower.compile(backend="eager")
        return model, model

    return [
        pytest.param(whole, marks=pytest.mark.slow),
        *(pytest.param(make, marks=pytest.mark.slow) for make in (wrapped, beside, forward)),
        decoder,
        encoder,
    ]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:compiled parts")
@pytest.mark.parametrize("make", compiled_parts(), ids=lambda make: make.__name__)
def test_a_model_that_ran_compiled_before(make):
    batch = make_batch([8])
    given, called = make(make_llava())
    with torch.no_grad():
        bare = called(**batch).logits
    for name in METHODS:
        with prune(make_llava(), name, ratio=0.6) as session:
            reference, kept = generate(session.adapter.model, batch), session.record.kept
            logits = session.adapter.model(**batch).logits
        with prune(given, name, ratio=0.6) as session, torch.no_grad():
            assert torch.equal(generate(called, batch), reference), name
            assert torch.equal(called(**batch).logits, logits), name
            assert torch.equal(session.record.kept, kept), name
    with torch.no_grad():
        assert torch.equal(called(**batch).logits, bare)


def test_decode_steps_that_generate_compiled_before(sdpa_model):
    """transformers compiles decode steps by itself where the cache is static, on a GPU or where it is told to."""
    compilation = CompileConfig(backend="eager", mode="default")
    compilation._compile_all_devices = True
    options = {"cache_implementation": "static", "compile_config": compilation}
    batch = make_batch([8, 12])
    bare = generate(sdpa_model, batch, **options)
    for name in ("cls", "divprune"):
        with prune(sdpa_model, name, ratio=0.6):
            assert torch.equal(generate(sdpa_model, batch, **options), generate(sdpa_model, batch))
    assert torch.equal(generate(sdpa_model, batch, **options), bare)


def test_what_is_compiled_runs_compiled_again_after_the_last_session():
    traced = []

    def backend(graph, _inputs):
        traced.append(graph)
        return graph.forward

    double = torch.compile(lambda x: x * 2, backend=backend)
    first, second = make_llava(), make_llava()
    with prune(first, "cls", ratio=0.5):
        with prune(second, "cls", ratio=0.5):
            double(torch.ones(2))
        double(torch.ones(2))
        assert not traced
    double(torch.ones(2))
    assert len(traced) == 1


def test_a_compiled_model_is_told():
    model = make_llava()
    model.compile(backend="eager")
    with pytest.warns(UserWarning, match="run uncompiled"), prune(model, "cls", ratio=0.5):
        pass
    with pytest.raises(RuntimeError, match="already being pruned"), prune(model, "cls", ratio=0.5):
        prune(torch.compile(model), "cls", ratio=0.5).__enter__()


def test_a_warning_that_is_an_error_leaves_nothing_behind():
    model = make_llava()
    model.compile(backend="eager")
    before = snapshot(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning), prune(model, "cls", ratio=0.5):
            pass
    assert snapshot(model) == before
    with pytest.warns(UserWarning), prune(model, "cls", ratio=0.5):
        pass


def test_hooks_that_are_passed_by(sdpa_model, monkeypatch):
    """A caller of a part's forward() goes past its hooks: no answer may come back."""
    batch = make_batch([8])
    language_model = sdpa_model.model.language_model

    def call(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    with prune(sdpa_model, "cls", ratio=0.5), monkeypatch.context() as patch:
        patch.setattr(type(language_model), "__call__", call)
        for answer in (lambda: sdpa_model(**batch), lambda: sdpa_model.generate(**batch, **GREEDY)):
            with pytest.raises(RuntimeError, match="hooks did not run"):
                answer()
    with prune(sdpa_model, "fastv", ratio=0.5), monkeypatch.context() as patch:
        patch.setattr(type(language_model.layers[2]), "__call__", call)
        with pytest.raises(RuntimeError, match="hooks of decoder layers"):
            sdpa_model(**batch)


def test_features_that_were_made_outside(sdpa_model):
    if "mm_encoder_outputs" not in inspect.signature(sdpa_model.model.forward).parameters:
        pytest.skip("transformers 5.17 takes no features")
    batch = make_batch([8])
    with torch.no_grad():
        encoded = sdpa_model.model.get_image_features(batch["pixel_values"], return_dict=True)
    given = {"input_ids": batch["input_ids"], "mm_encoder_outputs": {"image": encoded}}
    with prune(sdpa_model, "cls", ratio=0.5):
        for inputs in (given, {"input_ids": batch["input_ids"]}):
            with pytest.raises(RuntimeError, match="nothing was encoded inside"):
                sdpa_model(**inputs)
        own = sdpa_model.model.get_image_features(batch["pixel_values"], return_dict=True)
        again = sdpa_model(input_ids=batch["input_ids"], mm_encoder_outputs={"image": own}).logits
        assert torch.equal(again, sdpa_model(**batch).logits)


@pytest.mark.parametrize("name", ["cls", "visionzip", "fastv", "sparsevlm"])
def test_attention_that_is_not_seen(sdpa_model, name):
    """After a prompt of which it was seen: what was seen then must not decide now."""
    batch = make_batch([8])
    inside = name in ("fastv", "sparsevlm")
    layers = sdpa_model.model.language_model.layers if inside else sdpa_model.model.vision_tower.encoder.layers
    with prune(sdpa_model, name, ratio=0.5):
        sdpa_model(**batch)
        for layer in layers:
            attention = layer.self_attn
            attention.forward = partial(past_the_interface, attention)
        with pytest.raises(RuntimeError, match="did not show its attention"):
            sdpa_model(**batch)


def past_the_interface(attention, *args, **kwargs):
    """The attention's own forward(), with a config that knows no probe."""
    own = attention.config
    attention.config = copy.copy(own)
    attention.config._attn_implementation_internal = "sdpa"
    try:
        return type(attention).forward(attention, *args, **kwargs)
    finally:
        attention.config = own
