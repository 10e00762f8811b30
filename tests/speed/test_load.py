"""The synthetic load is of the asked size, always the same, and free of special tokens."""

from __future__ import annotations

import pytest
import torch

from vlmprune.errors import UserError
from vlmprune.speed import Load
from vlmprune.speed.load import make_batch, ordinary_token_ids


def test_lengths(loaded):
    prompts = make_batch(loaded, Load(prompt_tokens=21), 3)
    ids, visual = prompts.inputs["input_ids"], loaded.adapter.visual_mask(prompts.inputs["input_ids"])
    assert ids.shape == (3, 21 + 144) and (visual.sum(1) == 144).all()
    assert visual[:, 10:154].all()  # in the middle
    assert prompts.inputs["attention_mask"].all() and prompts.encoded.slots == 144


def test_prompts_differ_and_come_again(loaded):
    first, again = (make_batch(loaded, Load(), 2).inputs for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["input_ids"][0], first["input_ids"][1])
    assert not torch.equal(first["pixel_values"][0], first["pixel_values"][1])


def test_words_are_ordinary(loaded):
    words = ordinary_token_ids(loaded)
    assert not torch.isin(words, torch.tensor(loaded.preprocessor.tokenizer.all_special_ids)).any()
    assert not loaded.adapter.visual_mask(words).any()
    assert 300 < len(words) < loaded.model.config.text_config.vocab_size


def test_too_short_a_prompt_is_refused(loaded):
    with pytest.raises(UserError, match=r"speed\.prompt_tokens=1: an image alone brings 0; give 2 or more"):
        make_batch(loaded, Load(prompt_tokens=1), 1)
