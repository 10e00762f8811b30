"""compile=true: towers and decoder as passes over fixed places, on every family; without a GPU each runs anew."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_llava
from tests.families import llava, qwen3_vl
from tests.families.test_guarantees import FAMILIES, GREEDY, NEW, snapshot
from vlmprune.config.registry import build_method
from vlmprune.engine.compiled import BUFFER_MULTIPLE, PROMPT_MULTIPLE, CompiledModel, FixedCache, GraphEntry
from vlmprune.engine.session import Session
from vlmprune.models.base import adapt

CASES = (("cls", {"ratio": 0.6}), ("none", {}), ("divprune", {"keep": 7}), ("visionzip", {"ratio": 0.5}))


def answers(adapter, method, inputs, compiled=None, **options):
    """Generated ids, and the record; compiled where `compiled` is given."""
    with torch.inference_mode(), Session(adapter, method) as session:
        if compiled is None:
            return adapter.model.generate(**inputs, **GREEDY, **options), session.record
        compiled.attach(session)
        options |= {"past_key_values": FixedCache(NEW)}
        with compiled:
            return adapter.model.generate(**inputs, **GREEDY, **options), session.record


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "qwen3_vl"], indirect=True)
def test_answers_and_records_are_those_of_the_model_as_it_is(family):
    adapter = adapt(family.make("sdpa"))
    compiled = CompiledModel(adapter, "eager")
    for texts in ([9, 6], [31, 5], [9, 6]):
        inputs = family.batch(texts)
        for name, amount in CASES:
            if name == "visionzip" and family is not llava:
                continue
            method = build_method(name, **amount)
            plain, record = answers(adapter, method, inputs)
            fast, own = answers(adapter, method, inputs, compiled)
            assert torch.equal(fast, plain), (texts, name)
            assert own.visual_counts == record.visual_counts and own.prompt_lengths == record.prompt_lengths
            assert record.kept is None or torch.equal(own.kept, record.kept)


@pytest.fixture
def recorded(monkeypatch):
    """The shapes of which passes are recorded: a decoder's embeddings [B, n, d], an encoder's pixels [B, 3, H, W]."""
    shapes = []

    def make_entry(*arguments):
        shapes.append(arguments[0].shape)
        return GraphEntry(*arguments)

    monkeypatch.setattr("vlmprune.engine.compiled.GraphEntry", make_entry)
    return shapes


@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_lengths_share_passes(attention, recorded):
    """Pruned prompts of 40 lengths: one pass a multiple of 32, one for decode steps, one for the tower."""
    adapter = adapt(make_llava(attention))
    compiled, method = CompiledModel(adapter, "eager"), build_method("cls", keep=4)
    for length in range(5, 45):
        inputs = llava.batch([length])
        plain, _ = answers(adapter, method, inputs)
        fast, _ = answers(adapter, method, inputs, compiled)
        assert torch.equal(fast, plain), length
    assert sorted(map(len, recorded)) == [3, 3, 3, 4, 4]  # the tower's again once the decoder's rows are known
    assert {shape[1] for shape in recorded if len(shape) == 3} == {1, 32, 64}


def test_a_method_inside_the_encoder_runs_there_as_it_is(recorded):
    adapter = adapt(make_llava())
    compiled, method = CompiledModel(adapter, "eager"), build_method("tome", ratio=0.5)
    inputs = llava.batch([9, 6])
    assert torch.equal(answers(adapter, method, inputs, compiled)[0], answers(adapter, method, inputs)[0])
    assert {len(shape) for shape in recorded} == {3}


def test_the_model_is_left_as_it_was():
    model = make_llava()
    compiled = CompiledModel(adapt(model), "eager")
    adapter, method, inputs = adapt(model), build_method("cls", ratio=0.5), llava.batch([9])
    plain, _ = answers(adapter, method, inputs)  # transformers puts hooks of its own in place when a model first runs
    before = snapshot(model)
    answers(adapter, method, inputs, compiled)
    assert snapshot(model) == before
    assert torch.equal(answers(adapter, method, inputs)[0], plain)


def test_what_cannot_work_is_refused_in_a_line():
    adapter = adapt(make_llava())
    compiled = CompiledModel(adapter, "eager")
    inputs = llava.batch([9])
    with pytest.raises(NotImplementedError, match="FixedCache inside the decoder"):
        answers(adapter, build_method("fastv", ratio=0.5), inputs, compiled)
    deep = adapt(qwen3_vl.make("sdpa"))
    with pytest.raises(NotImplementedError, match="is not given deepstack_visual_embeds"):
        answers(deep, build_method("none"), qwen3_vl.batch([9]), CompiledModel(deep, "eager"))
    with pytest.raises(RuntimeError, match="1 new tokens was asked for more"), compiled, torch.inference_mode():
        adapter.model.generate(**inputs, **GREEDY | {"max_new_tokens": BUFFER_MULTIPLE}, past_key_values=FixedCache(1))


def test_a_later_prompt_takes_the_place():
    model = make_llava()
    compiled, inputs = CompiledModel(adapt(model), "eager"), llava.batch([9])
    with compiled, torch.inference_mode():
        first = FixedCache(NEW)
        ids = model.generate(**inputs, **GREEDY, past_key_values=first)
        model.generate(**inputs, **GREEDY, past_key_values=FixedCache(NEW))
        mask = torch.ones_like(ids)
        with pytest.raises(RuntimeError, match="taken by a later prompt"):
            model.generate(input_ids=ids, attention_mask=mask, **GREEDY, past_key_values=first)


def test_padding_is_a_number_and_changes_nothing():
    """A prompt is padded to a multiple of 32: what padding computes reaches no other token."""
    model = make_llava()
    adapter, method = adapt(model), build_method("cls", keep=3)
    compiled = CompiledModel(adapter, "eager")
    inputs = llava.batch([9, 6])
    with torch.inference_mode(), Session(adapter, method):
        plain = model(**inputs).logits[:, -1]
    cache = FixedCache(1)
    with torch.inference_mode(), compiled, Session(adapter, method):
        output = model(**inputs, past_key_values=cache)
    assert output.logits.shape[1] == PROMPT_MULTIPLE and cache.seen == PROMPT_MULTIPLE
    assert output.logits.isfinite().all()
    torch.testing.assert_close(output.logits[:, -1], plain, rtol=1e-4, atol=1e-4)
