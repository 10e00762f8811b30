"""A session refuses by name what cannot work inside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, StaticCache

from tests.conftest import IMAGE_TOKEN, PATCHES, make_batch
from tests.families.test_guarantees import GREEDY, generate, snapshot
from vlmprune import prune
from vlmprune.errors import UserError
from vlmprune.methods.base import ScoreMethod
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV


@dataclass
class Scored(ScoreMethod):
    """A user's method: any scores made of the features."""

    needs: ClassVar = ("features",)

    make: Callable[[Tensor], Tensor] = torch.ones_like

    def score(self, signals):
        return self.make(signals.features)


def test_nesting(sdpa_model):
    with (
        prune(sdpa_model, "cls", ratio=0.5),
        pytest.raises(RuntimeError, match="already being pruned"),
        prune(sdpa_model, "fastv", ratio=0.5),
    ):
        pass
    with prune(sdpa_model, "cls", ratio=0.5):
        pass  # the refusal above left nothing behind


def test_right_padding(sdpa_model):
    batch = make_batch([8, 12])
    flipped = {"input_ids": batch["input_ids"].flip(1), "attention_mask": batch["attention_mask"].flip(1)}
    with prune(sdpa_model, "cls", ratio=0.5), pytest.raises(ValueError, match="left"):
        sdpa_model(**batch | flipped)


def generate_into_static_cache(model, batch):
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=80)
    generate(model, batch, past_key_values=cache)


def generate_without_cache(model, batch):
    """By a GenerationConfig that is given by its place."""
    model.generate(batch.pop("input_ids"), GenerationConfig(use_cache=False, max_new_tokens=3), **batch)


@pytest.mark.parametrize(
    ("method", "call", "said"),
    [
        ("cls", partial(generate, prompt_lookup_num_tokens=3), "prompt_lookup_num_tokens"),
        ("cls", partial(generate, prefill_chunk_size=4), "prefill_chunk_size"),
        ("cls", partial(generate, guidance_scale=1.5), "guidance_scale"),
        ("fastv", partial(generate, cache_implementation="static"), "static"),
        ("fastv", generate_into_static_cache, "StaticCache"),
        ("compose", generate_into_static_cache, "StaticCache"),
        ("fastv", generate_without_cache, "use_cache"),
        ("cls", lambda model, batch: model(**batch, labels=batch["input_ids"]), "labels"),
        ("cls", lambda model, batch: model(inputs_embeds=torch.zeros(1, 44, 32)), "input_ids"),
        ("cls", lambda model, batch: model(**batch, logits_to_keep=torch.tensor([0, 43])), "logits_to_keep= as ind"),
    ],
)
def test_calls_that_pruning_would_make_wrong(sdpa_model, method, call, said):
    with prune(sdpa_model, method, ratio=0.5), pytest.raises(NotImplementedError, match=said):
        call(sdpa_model, make_batch([8]))


def test_an_average_that_a_longer_prompt_cannot_reach(sdpa_model):
    with prune(sdpa_model, "fastv", keep=15, budget="average") as session:
        sdpa_model(**make_batch([8]))
        assert session.record.visual_counts[-1] == [4]  # (2 x 36 + 4 x 4) / 6 layers: 15 rounded down
        with pytest.raises(UserError, match=r"FastV: .*15 of 72 visual tokens a layer .* the least is 24"):
            sdpa_model(**make_batch([8], images=2))


def test_a_cache_from_outside(sdpa_model):
    batch = make_batch([8])
    cache = sdpa_model(**batch, use_cache=True).past_key_values
    with prune(sdpa_model, "cls", ratio=0.5), pytest.raises(RuntimeError, match="outside the session"):
        sdpa_model(input_ids=batch["input_ids"][:, -1:], past_key_values=cache)


@pytest.mark.parametrize("count", [3, PATCHES + 1])
def test_scores_of_another_shape(sdpa_model, count):
    method = Scored(ratio=0.5, make=lambda features: torch.ones(len(features), count))
    said = rf"Scored.score: shape \(1, {count}\), expected \[B, N\] = \(1, 36\)"
    with prune(sdpa_model, method), pytest.raises(ValueError, match=said):
        sdpa_model(**make_batch([8]))


def test_scores_that_are_nan(sdpa_model):
    def make(features):
        return torch.where(torch.arange(PATCHES) == 5, torch.nan, features.norm(dim=-1))

    with prune(sdpa_model, Scored(ratio=0.5, make=make)), pytest.raises(RuntimeError, match="scores are nan"):
        sdpa_model(**make_batch([8]))


def test_right_padding_in_a_later_turn(sdpa_model):
    batch = make_batch([8, 8])
    with prune(sdpa_model, "cls", ratio=0.5):
        cache = sdpa_model(**batch, use_cache=True).past_key_values
        mask = torch.cat([batch["attention_mask"], torch.tensor([[1, 1], [1, 0]])], dim=1)
        with pytest.raises(ValueError, match="later turn must be padded on the left"):
            sdpa_model(input_ids=torch.full((2, 2), 5), attention_mask=mask, past_key_values=cache)


@pytest.mark.parametrize("name", ["cls", "fastv", "tome"])
def test_a_prompt_of_which_nothing_is_left(sdpa_model, name):
    """An image alone, alone and beside another prompt: its answer would be made of padding."""
    words = make_batch([8])
    image = {"input_ids": torch.full((1, PATCHES), IMAGE_TOKEN), "pixel_values": words["pixel_values"]}
    ids = torch.cat([torch.nn.functional.pad(image["input_ids"], (8, 0)), words["input_ids"]])
    pixels = words["pixel_values"].repeat(2, 1, 1, 1)
    both = {"input_ids": ids, "attention_mask": (ids > 0).long(), "pixel_values": pixels}
    with prune(sdpa_model, name, ratio=1):
        for inputs in (image, both):
            with pytest.raises(UserError, match="nothing is left of a prompt"):
                sdpa_model(**inputs)
        sdpa_model(**words)


def turn(model, ids, cache):
    return model.generate(input_ids=ids, past_key_values=cache, **GREEDY)


def test_caches_that_hold_something_else(sdpa_model):
    """Of each, transformers alone would make a wrong answer without a word."""
    batch = make_batch([8])
    with torch.no_grad():
        outside = sdpa_model(**batch, use_cache=True).past_key_values
    with prune(sdpa_model, "cls", ratio=0.5):
        cache = DynamicCache()
        first = sdpa_model.generate(**batch, **GREEDY, past_key_values=cache)
        longer = torch.cat([first, torch.tensor([[5, 6]])], dim=1)
        other = longer.clone()
        other[0, 0] += 1
        for ids, given, said in (
            (longer, outside, "an image that was prefilled outside"),
            (other, cache, "do not begin with the prompt"),
            (torch.nn.functional.pad(longer, (1, 0), value=4), cache, "do not begin with the prompt"),
            (first[:, :-2], cache, "give all of its ids and the new ones"),
        ):
            with pytest.raises(RuntimeError, match=said):
                turn(sdpa_model, ids, copy.deepcopy(given))
        cropped = copy.deepcopy(cache)
        cropped.crop(-20)
        with pytest.raises(RuntimeError, match="cropped into its pruned prompt"):
            turn(sdpa_model, longer, cropped)
    for name in ("divprune", "none"):
        with (
            prune(sdpa_model, name, ratio=0.5 if name == "divprune" else None),
            pytest.raises(RuntimeError, match=r"filled while ClsAttention\(ratio=0.5.* pruned"),
        ):
            turn(sdpa_model, longer, cache)


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "sparsevlm", "compose"])
def test_a_later_turn_with_a_method_inside_the_decoder(sdpa_model, name):
    batch = make_batch([8])
    with prune(sdpa_model, name, ratio=0.5):
        cache = DynamicCache()
        first = sdpa_model.generate(**batch, **GREEDY, past_key_values=cache)
        for words in ([5, 6], [5]):
            ids = torch.cat([first, torch.tensor([words])], dim=1)
            with pytest.raises(NotImplementedError, match="continuing a filled cache"):
                turn(sdpa_model, ids, copy.deepcopy(cache))
        with pytest.raises(NotImplementedError, match="continuing a filled cache"):
            sdpa_model(input_ids=torch.tensor([[5, 6]]), past_key_values=copy.deepcopy(cache))


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


@pytest.mark.parametrize("name", ["cls", "fastv"])
def test_masks_of_four_dimensions(sdpa_model, name):
    """One that says what a 2-D mask says is taken for it; any other is refused. Unpruned, transformers gets it."""
    batch = make_batch([8])
    plain = {key: value for key, value in batch.items() if key != "attention_mask"}
    length = batch["input_ids"].shape[1]
    hidden = causal(length)
    hidden[..., 30:, 1] = False
    additive = torch.zeros(hidden.shape).masked_fill(~hidden, torch.finfo(torch.float32).min)
    with prune(sdpa_model, name, ratio=0.5):
        expected = sdpa_model(**batch).logits
        for same in (causal(length), torch.zeros(1, 1, length, length).masked_fill(~causal(length), -torch.inf)):
            assert torch.equal(sdpa_model(**plain, attention_mask=same).logits, expected)
        for custom in (hidden, additive, torch.ones_like(hidden), hidden.expand(1, 4, -1, -1)):
            with pytest.raises(NotImplementedError, match="attention mask"):
                sdpa_model(**plain, attention_mask=custom)
    bare = sdpa_model(**plain, attention_mask=hidden).logits
    with prune(sdpa_model, "none"):
        assert torch.equal(sdpa_model(**plain, attention_mask=hidden).logits, bare)


def test_the_last_logits_alone(sdpa_model):
    batch = make_batch([8])
    with prune(sdpa_model, "cls", ratio=0.5):
        last, all_of_them = sdpa_model(**batch, logits_to_keep=2).logits, sdpa_model(**batch).logits
        torch.testing.assert_close(last, all_of_them[:, -2:])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers 5.23 has a second name for it
@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "tome", "cls", "divprune"])
def test_gradient_checkpointing(sdpa_model, name):
    """Refused where a layer that runs again has something of the session in it; right after the block elsewhere."""
    batch = make_batch([8])

    def gradients(model):
        model.zero_grad()
        with prune(model, name, ratio=0.5):
            loss = model(**batch, use_cache=False).logits[:, -1].square().sum()
        loss.backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    sdpa_model.train()
    expected = gradients(sdpa_model)
    sdpa_model.gradient_checkpointing_enable()
    if name == "divprune":
        torch.testing.assert_close(gradients(sdpa_model), expected)
        return
    with pytest.raises(NotImplementedError, match=r"gradient_checkpointing_disable\(\)"):
        gradients(sdpa_model)
    with torch.no_grad(), prune(sdpa_model, name, ratio=0.5):
        sdpa_model(**batch)
    sdpa_model.gradient_checkpointing_disable()
    torch.testing.assert_close(gradients(sdpa_model), expected)


def test_a_failing_installation_leaves_the_model_usable(sdpa_model, monkeypatch):
    from vlmprune.engine import stages

    def fail(*_):
        raise ZeroDivisionError

    before = snapshot(sdpa_model)
    monkeypatch.setattr(stages.DecoderHooks, "install", fail)
    with pytest.raises(ZeroDivisionError), prune(sdpa_model, "compose", ratio=0.5):
        pass
    assert snapshot(sdpa_model) == before
    with prune(sdpa_model, "cls", ratio=0.5):
        pass


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (FastV(ratio=0.5, positions="kept"), "positions=kept"),
        (ClsAttention(ratio="0.5"), "ratio=0.5"),
        (ClsAttention, "expected a name"),
    ],
)
def test_a_method_object_that_is_none(sdpa_model, method, message):
    with pytest.raises(UserError, match=message):
        prune(sdpa_model, method)


def test_half_a_model(sdpa_model):
    for part in (sdpa_model.model, None):
        with pytest.raises(UserError, match="whole model"):
            prune(part, "cls", ratio=0.5)
