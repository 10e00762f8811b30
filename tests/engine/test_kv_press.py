"""NVIDIA's kvpress in a session: visual tokens and KV cache under one budget.

The fast tests run with a stand-in that hooks the decoder as kvpress does; the slow one repeats them with kvpress.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, Qwen2Config, StaticCache

from tests.conftest import IMAGE_TOKEN, PATCHES, make_batch
from tests.families import llava_next
from tests.families.test_guarantees import NEW, generate
from tests.toy_models import TEXT, toy_llava
from vlmprune import prune

ROOT = Path(__file__).parents[2]
KVPRESS = ["kvpress==0.5.4", "fire", "termcolor", "cachetools"]
LAYERS, BYTES = 6, 2 * 2 * 8 * 4  # of a token in a layer: keys and values of 2 heads of 8 float32 numbers


@dataclass
class BasePress:
    """The hooks of kvpress 0.5.4's class of this name."""

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        raise NotImplementedError

    def forward_hook(self, module, input, kwargs, output):
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        hidden = kwargs["hidden_states"]
        if kwargs["cache_position"][-1] + 1 == hidden.shape[1]:
            layer.keys, layer.values = self.compress(module, hidden, layer.keys, layer.values, output[1], kwargs)
        return output

    @contextmanager
    def __call__(self, model):
        layers = model.model.language_model.layers
        handles = [layer.self_attn.register_forward_hook(self.forward_hook, with_kwargs=True) for layer in layers]
        yield
        for handle in handles:
            handle.remove()


@dataclass
class ScorerPress(BasePress):
    compression_ratio: float = 0.0

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        return shorten(keys, values, self.score(keys), self.compression_ratio)

    def score(self, keys):
        raise NotImplementedError


@dataclass
class KnormPress(ScorerPress):
    def score(self, keys):
        return -keys.norm(dim=-1)


@dataclass
class DecodingPress(BasePress):
    base_press: Any = None

    def forward_hook(self, module, input, kwargs, output):
        raise AssertionError("a refused press was called")


def shorten(keys, values, scores, ratio):
    """Keys and values of the highest scores, as many as kvpress keeps."""
    index = scores.topk(int(keys.shape[2] * (1 - ratio)), dim=-1).indices.unsqueeze(-1)
    index = index.expand(-1, -1, -1, keys.shape[3])
    return keys.gather(2, index), values.gather(2, index)


@pytest.fixture
def kvpress(monkeypatch):
    if find_spec("kvpress") is not None:
        import kvpress

        return kvpress
    stand_in = SimpleNamespace(
        BasePress=BasePress, ScorerPress=ScorerPress, KnormPress=KnormPress, DecodingPress=DecodingPress
    )
    monkeypatch.setitem(sys.modules, "kvpress", stand_in)
    return stand_in


def expected(model, batch, method, settings, ratio, turn=None):
    """Answers, and logits of a later turn's last token: caches shortened by hand, decoded by the bare model."""
    cache = DynamicCache()
    with prune(model, method, **settings) as session:
        token = model(**batch, past_key_values=cache).logits[:, -1:].argmax(-1)
    kept = settings.get("positions") == "keep" or method == "none"
    position = batch["input_ids"].shape[1] if kept else session.record.prompt_lengths[0]
    for layer in cache.layers:
        layer.keys, layer.values = shorten(layer.keys, layer.values, -layer.keys.norm(dim=-1), ratio)
    if turn is not None:
        positions = position + torch.arange(turn.shape[1]).unsqueeze(0)
        return model(input_ids=turn, past_key_values=cache, position_ids=positions).logits[:, -1]
    tokens = [token]
    for step in range(NEW - 1):
        positions = torch.tensor([[position + step]])
        output = model(input_ids=tokens[-1], past_key_values=cache, position_ids=positions)
        tokens.append(output.logits[:, -1:].argmax(-1))
    return torch.cat(tokens, dim=1)


BEFORE = [("cls", {"ratio": 0.5, "positions": rule}) for rule in ("renumber", "keep")] + [("none", {})]
INSIDE = ("fastv", {"ratio": 0.5, "positions": "keep"})


@pytest.mark.parametrize(("method", "settings"), BEFORE)
def test_a_press_compresses_what_pruning_left(model, kvpress, method, settings):
    batch = make_batch([8, 8])
    with prune(model, method, **settings) as session, kvpress.KnormPress(0.4)(model):
        answers = generate(model, batch)
    assert torch.equal(answers, expected(model, batch, method, settings, 0.4))
    assert not torch.equal(answers, generate(model, batch))
    length = 8 + (PATCHES if method == "none" else PATCHES // 2)
    assert session.record.prompt_lengths == [length, length]
    assert session.record.kv_cache_bytes == 2 * LAYERS * BYTES * int(length * 0.6)


@pytest.mark.parametrize("method", ["random", "fastv"])
def test_a_press_that_drops_nothing_changes_no_answer(family, kvpress, method):
    """Masks and positions of every family, where a cache was replaced by another order of itself."""
    model, batch = family.make(), family.batch([8])
    with prune(model, method, ratio=0.5):
        answers = generate(model, batch)
        with kvpress.KnormPress(0.0)(model):
            assert torch.equal(generate(model, batch), answers)


def test_each_layer_of_a_method_inside_the_decoder_is_compressed_by_its_own_length(sdpa_model, kvpress):
    method, settings = INSIDE
    batch = make_batch([8])
    with kvpress.KnormPress(0.25)(sdpa_model), prune(sdpa_model, method, **settings) as session:
        answers = generate(sdpa_model, batch)
    assert torch.equal(answers, expected(sdpa_model, batch, method, settings, 0.25))
    lengths = [8 + counts[0] for counts in session.record.visual_counts]
    assert len(set(lengths)) == 2
    assert session.record.kv_cache_bytes == sum(BYTES * int(length * 0.75) for length in lengths)


def test_the_cache_of_a_session_without_a_press_is_in_the_record(sdpa_model):
    for method, length in (("none", PATCHES), ("cls", PATCHES // 2)):
        ratio = {} if method == "none" else {"ratio": 0.5}
        with prune(sdpa_model, method, **ratio) as session:
            sdpa_model.generate(**make_batch([8]), max_new_tokens=3)
            assert session.record.kv_cache_bytes == LAYERS * BYTES * (8 + length)
            sdpa_model(**make_batch([8]), use_cache=False)
        assert session.record.kv_cache_bytes is None


@pytest.mark.parametrize("method", ["cls", "none"])
def test_a_later_turn_continues_a_compressed_cache(sdpa_model, kvpress, method):
    settings, batch, turn = {"ratio": 0.5} if method == "cls" else {}, make_batch([8]), torch.tensor([[5, 6, 7]])
    cache = DynamicCache()
    with prune(sdpa_model, method, **settings), kvpress.KnormPress(0.4)(sdpa_model):
        sdpa_model(**batch, past_key_values=cache)
        held = cache.get_seq_length()
        logits = sdpa_model(input_ids=turn, past_key_values=cache).logits[:, -1]
    assert cache.get_seq_length() == held + 3  # a press compresses the first prefill of a cache alone
    assert torch.allclose(logits, expected(sdpa_model, batch, method, settings, 0.4, turn), atol=1e-4)


def test_nothing_of_the_session_is_left(sdpa_model, kvpress):
    batch = make_batch([8])
    bare = generate(sdpa_model, batch)
    with kvpress.KnormPress(0.4)(sdpa_model), prune(sdpa_model, "cls", ratio=0.5):
        generate(sdpa_model, batch)
    attentions = [layer.self_attn for layer in sdpa_model.model.language_model.layers]
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in attentions)
    assert torch.equal(generate(sdpa_model, batch), bare)


def uneven(kvpress):
    class UnevenPress(kvpress.KnormPress):
        def compress(self, module, *args):
            self.compression_ratio = 0.1 * module.layer_idx
            return super().compress(module, *args)

    return UnevenPress()


@pytest.mark.parametrize(
    ("presses", "texts", "message"),
    [
        (lambda kvpress: [kvpress.KnormPress(0.4)], [8, 11], "KnormPress on prompts of different lengths: it takes"),
        (lambda kvpress: [uneven(kvpress)], [8], "UnevenPress keeps .* tokens in layers that share one mask"),
        (
            lambda kvpress: [kvpress.DecodingPress(kvpress.KnormPress())],
            [8],
            "DecodingPress while tokens are pruned: of kvpress only presses that drop keys by score at prefill",
        ),
        (
            lambda kvpress: [kvpress.KnormPress(0.4), kvpress.KnormPress(0.2)],
            [8],
            "KnormPress and KnormPress while tokens are pruned: give one press of kvpress",
        ),
    ],
)
def test_presses_that_cannot_work_are_refused(sdpa_model, kvpress, presses, texts, message):
    with prune(sdpa_model, "cls", ratio=0.5), ExitStack() as stack:
        for press in presses(kvpress):
            stack.enter_context(press(sdpa_model))
        with pytest.raises(NotImplementedError, match=message):
            generate(sdpa_model, make_batch(texts))


def test_a_static_cache_is_refused(sdpa_model, kvpress):
    cache = StaticCache(config=sdpa_model.config.get_text_config(), max_cache_len=80)
    message = "StaticCache with KnormPress: use DynamicCache"
    session, press = prune(sdpa_model, "cls", ratio=0.5), kvpress.KnormPress(0.4)(sdpa_model)
    with session, press, pytest.raises(NotImplementedError, match=message):
        generate(sdpa_model, make_batch([8]), past_key_values=cache)


def test_layers_with_a_sliding_window_are_refused(kvpress):
    text = Qwen2Config(**TEXT | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0})
    model = toy_llava(text, IMAGE_TOKEN)
    with (
        prune(model, "cls", ratio=0.5),
        kvpress.KnormPress(0.4)(model),
        pytest.raises(NotImplementedError, match="window"),
    ):
        generate(model, make_batch([8]))


def test_a_method_that_runs_layers_twice_is_refused(kvpress):
    model = llava_next.make()
    message = "KnormPress with a method that runs decoder layers twice"
    session, press = prune(model, "scm", ratio=0.5), kvpress.KnormPress(0.4)(model)
    with session, press, pytest.raises(NotImplementedError, match=message):
        model(**llava_next.batch([8]))


@pytest.mark.slow
def test_kvpress_itself(tmp_path):
    """kvpress requires transformers<5.3, so that it is installed without its requirements, in a folder of its own."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--target", tmp_path, *KVPRESS], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"kvpress cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout
