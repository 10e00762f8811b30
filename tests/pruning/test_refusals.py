"""What cannot work inside a session says so by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, StaticCache

from tests.conftest import PATCHES, make_batch, make_llava
from tests.pruning.test_session import generate, snapshot
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


@pytest.mark.parametrize("option", [{"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 4}])
def test_generation_modes(sdpa_model, option):
    with prune(sdpa_model, "cls", ratio=0.5), pytest.raises(NotImplementedError, match=next(iter(option))):
        generate(sdpa_model, make_batch([8]), **option)


def test_static_cache_inside_the_decoder(sdpa_model):
    with prune(sdpa_model, "fastv", ratio=0.5), pytest.raises(NotImplementedError, match="static"):
        generate(sdpa_model, make_batch([8]), cache_implementation="static")


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


def test_overflowing_features(sdpa_model):
    batch = make_batch([8])
    batch["pixel_values"][0, 0, 0, 0] = torch.nan
    with prune(sdpa_model, "uniform", ratio=0.5), pytest.raises(RuntimeError, match="not finite"):
        sdpa_model(**batch)


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


def test_embeddings_instead_of_ids(sdpa_model):
    embeds = sdpa_model.get_input_embeddings()(make_batch([8])["input_ids"])
    with prune(sdpa_model, "cls", ratio=0.5), pytest.raises(NotImplementedError, match="input_ids"):
        sdpa_model(inputs_embeds=embeds)


def test_a_schedule_that_does_not_fit():
    with pytest.raises(UserError, match="1 to 5"):
        prune(make_llava(), "fastv", ratio=0.5, k=9)


@pytest.mark.parametrize("name", ["fastv", "compose"])
def test_a_static_cache_of_the_callers(sdpa_model, name):
    batch = make_batch([8])
    cache = StaticCache(config=sdpa_model.config.get_text_config(), max_cache_len=80)
    with prune(sdpa_model, name, ratio=0.5), pytest.raises(NotImplementedError, match="StaticCache"):
        generate(sdpa_model, batch, past_key_values=cache)


def test_a_positional_generation_config(sdpa_model):
    batch = make_batch([8])
    config = GenerationConfig(use_cache=False, max_new_tokens=3)
    with prune(sdpa_model, "fastv", ratio=0.5), pytest.raises(NotImplementedError, match="use_cache"):
        sdpa_model.generate(batch.pop("input_ids"), config, **batch)


def test_guidance_and_labels(sdpa_model):
    batch = make_batch([8])
    with prune(sdpa_model, "cls", ratio=0.5):
        with pytest.raises(NotImplementedError, match="guidance_scale"):
            generate(sdpa_model, batch, guidance_scale=1.5)
        with pytest.raises(NotImplementedError, match="labels"):
            sdpa_model(**batch, labels=batch["input_ids"])


def test_padding_inside_a_later_turn(sdpa_model):
    batch = make_batch([8, 8])
    with prune(sdpa_model, "cls", ratio=0.5):
        cache = sdpa_model(**batch, use_cache=True).past_key_values
        mask = torch.cat([batch["attention_mask"], torch.tensor([[1, 1], [0, 1]])], dim=1)
        with pytest.raises(NotImplementedError, match="padding inside a later turn"):
            sdpa_model(input_ids=torch.full((2, 2), 5), attention_mask=mask, past_key_values=cache)


def test_a_failing_installation_leaves_the_model_usable(sdpa_model, monkeypatch):
    from vlmprune.pruning import stages

    def fail(*_):
        raise ZeroDivisionError

    before = snapshot(sdpa_model)
    monkeypatch.setattr(stages.DecoderStages, "install", fail)
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
