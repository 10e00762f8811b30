"""The engine's guarantees where kernels, rounding and asynchrony are a GPU's."""

from __future__ import annotations

import pytest
import torch

from tests.families.test_guarantees import GREEDY, NEW, check_logits, check_ratio_0, generate, method_of, snapshot
from tests.gpu.conftest import DTYPES, batch_of, placed
from vlmprune import prune
from vlmprune.engine.session import Session
from vlmprune.measure.latency import StageClock, time_parts
from vlmprune.models.base import adapt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl"], indirect=True),
]

METHODS = ["cls", "divprune", "fastv", "pyramiddrop", "sparsevlm"]


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.param]


def test_ratio_0_is_bit_identical(family, dtype):
    check_ratio_0(placed(family, dtype), batch_of(family, dtype, [9, 6]), ["none", *METHODS], family.slots)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_tokens_and_answers_as_on_a_cpu(family, name):
    model, inputs = placed(family, torch.float32), batch_of(family, torch.float32, [9, 6])
    with prune(model, name, ratio=0.6) as session:
        tokens, kept, counts = generate(model, inputs), session.record.kept, session.record.visual_counts
    with prune(model.cpu(), name, ratio=0.6) as session:
        own = generate(model, {key: given.cpu() for key, given in inputs.items()})
    assert session.record.visual_counts == counts
    assert torch.equal(session.record.kept, kept.cpu())
    assert torch.equal(own, tokens.cpu())


@pytest.mark.parametrize("name", METHODS)
def test_what_is_dropped_is_gone(family, dtype, name):
    """From the caches, in every precision; and answers are finite numbers."""
    model, inputs = placed(family, dtype), batch_of(family, dtype, [9, 9])
    with prune(model, name, ratio=0.6) as session:
        output = model.generate(**inputs, **GREEDY, return_dict_in_generate=True, output_logits=True)
    record = session.record
    texts = [total - n for total, n in zip(record.prompt_lengths, record.visual_counts[0], strict=True)]
    for layer, counts in zip(output.past_key_values.layers, record.visual_counts, strict=True):
        assert layer.keys.shape[2] == max(text + n for text, n in zip(texts, counts, strict=True)) + NEW - 1
    assert max(record.visual_counts[-1]) < max(family.slots(inputs))
    assert all(logits.isfinite().all() for logits in output.logits)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_gives_what_its_samples_give(family, name):
    model, inputs = placed(family, torch.float32), batch_of(family, torch.float32, [8, 12, 6])
    check_logits(family, model, inputs, 1e-3, name, ratio=0.6)


def test_the_model_is_left_as_it_was(family, dtype):
    model, inputs = placed(family, dtype), batch_of(family, dtype, [8])
    bare, before = generate(model, inputs), snapshot(model)
    for name in METHODS:
        with prune(model, name, ratio=0.5):
            generate(model, inputs)
        assert snapshot(model) == before, name
    assert torch.equal(generate(model, inputs), bare)


@pytest.mark.parametrize("name", ["none", *METHODS])
def test_the_parts_of_a_question_add_up(family, dtype, name, device):
    model, inputs = placed(family, dtype), batch_of(family, dtype, [9])
    adapter, clock = adapt(model), StageClock(device)
    with Session(adapter, method_of(name), clock), clock.watch(model, adapter.vision_towers, adapter.projector):
        times, _ = time_parts(lambda: generate(model, inputs), clock)
    assert (times["selection"] > 0) == (name != "none")
    first = times["vision"] + times["projector"] + times["prefill"]
    whole = first + (NEW - 1) * times["decode_per_token"] + times["other"]
    assert whole == pytest.approx(times["end_to_end"], rel=0.01)
    assert first < times["first_token"] < times["end_to_end"]
