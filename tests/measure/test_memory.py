"""Peaks that start again, and the bytes of caches and weights."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from tests.conftest import make_batch, make_llava
from vlmprune.engine.kv_cache import cache_bytes
from vlmprune.measure.memory import (
    SINCE_RESET,
    SINCE_START,
    cache_bytes_per_token,
    decoder_bytes,
    peak_mb,
    reset_peak,
)
from vlmprune.models.base import adapt

CPU = torch.device("cpu")


def test_the_peak_is_that_since_the_reset():
    if reset_peak(CPU) == SINCE_START:
        pytest.skip("this system does not let a process reset its peak")
    before = peak_mb(CPU)
    with mmap.mmap(-1, 64 * 2**20) as fresh:  # not from what the process was given before, as malloc may take it
        for start in range(0, len(fresh), 4096):
            fresh[start] = 1
    assert peak_mb(CPU) > before + 50
    assert reset_peak(CPU) == SINCE_RESET
    assert peak_mb(CPU) < before + 50


def test_without_the_right_to_reset_it_says_so(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert reset_peak(CPU) == SINCE_START


def test_without_proc_the_peak_is_the_systems(monkeypatch):
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert peak_mb(CPU) > 50


def test_bytes_of_a_cache():
    """6 layers, 2 key heads of 8, float32, 45 tokens in 3 rows."""
    output = make_llava().generate(
        **make_batch([9, 9, 9]), max_new_tokens=1, return_dict_in_generate=True, pad_token_id=0
    )
    token = 3 * 6 * 2 * 2 * 8 * 4
    assert cache_bytes_per_token(output.past_key_values) == token
    assert cache_bytes(output.past_key_values) == 45 * token


@pytest.mark.parametrize("tied", [False, True])
def test_bytes_that_a_decode_step_reads(tied):
    model = make_llava()
    if tied:
        model.lm_head.weight = model.get_input_embeddings().weight
    layer = sum(weight.numel() for weight in model.model.language_model.layers[0].parameters())
    assert decoder_bytes(adapt(model)) == 4 * (6 * layer + 32 + 99 * 32)  # the layers, the last norm, the head
