"""FastV and PyramidDrop through a whole decoder, against what the authors' code gave there."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch

from tests.engine.golden_llava import GoldenLlava, Run
from tests.methods.golden import MERGED, Vectors
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.fastv import FastV
from vlmprune.methods.pyramiddrop import PyramidDrop

MAIN, KV, PYRAMID = Vectors("fastv_main"), Vectors("fastv_hf_kv"), Vectors("pyramiddrop")
MAIN_CASES = [name.removesuffix(".keep") for name in MAIN if name.endswith(".keep")]
RunWith = Callable[[GoldenLlava, DecoderMethod], Run]
KV_CASES = [name.removesuffix(".keep") for name in KV if name.endswith(".keep")]


@cache
def llava(decoded: str, start: int = 35, n: int = 576, length: int = 673) -> GoldenLlava:
    """The recorded decoder and prompt, and the tokens that the file `decoded` has after it."""
    weights, x, dec = Vectors("llama_tiny_weights"), MAIN["x"][0, :length], Vectors(decoded)["dec"][0]
    return GoldenLlava(weights, x, dec, start=start, n=n, heads=8, depth=4, at=[0, 1, 2, 3])


def kept_positions(run: Run, start: int, n: int, length: int) -> list[int]:
    """Prompt positions that reach the last layer."""
    kept = run.record.kept[0].nonzero()[:, 0].tolist()
    return [*range(start), *(start + slot for slot in kept), *range(start + n, length)]


def check_fastv(case: str, run_with: RunWith) -> None:
    k, ratio = case[1:].split("_r")
    run = run_with(llava("fastv_hf_kv"), FastV(k=int(k), ratio=float(ratio)))
    assert kept_positions(run, 35, 576, 673) == KV[f"{case}.keep"].tolist()
    check(run, KV, case)
    assert (run.positions.cpu() == torch.tensor([[673], [674]])).all()


def check_pyramiddrop(case: str, run_with: RunWith) -> None:
    start, n, length = PYRAMID[f"{case}.img"].tolist()
    run = run_with(llava("pyramiddrop", start, n, length), PyramidDrop())
    assert kept_positions(run, start, n, length) == PYRAMID[f"{case}.stage2.keep_orig"].tolist()
    check(run, PYRAMID, case)
    assert torch.equal(run.positions.cpu(), PYRAMID[f"{case}.decpos"])


def check(run: Run, vectors: Vectors, case: str) -> None:
    assert run.cache_lengths == vectors[f"{case}.kvlen"].tolist()
    torch.testing.assert_close(run.last[0].cpu(), vectors[f"{case}.last"], **MERGED)
    torch.testing.assert_close(run.decode[:, 0].cpu(), vectors[f"{case}.decode"], **MERGED)


def test_there_are_vectors() -> None:
    assert (len(MAIN_CASES), len(KV_CASES)) == (12, 8)


@pytest.mark.parametrize("case", MAIN_CASES)
def test_fastv_without_a_cache(case: str) -> None:
    """Their own fork, which drops the tokens and runs the prompt alone."""
    k, rank, start = map(int, re.findall(r"\d+", case))
    run = llava("fastv_hf_kv", start).run(FastV(k=k, keep=rank))
    torch.testing.assert_close(run.last[0], MAIN[f"{case}.last"], **MERGED)
    assert kept_positions(run, start, 576, 673) == MAIN[f"{case}.keep"].tolist()


@pytest.mark.parametrize("case", KV_CASES)
def test_fastv_with_a_cache(case: str) -> None:
    """Their fork of transformers, which decodes at the positions of the full prompt."""
    check_fastv(case, GoldenLlava.run)


@pytest.mark.parametrize("case", ["lam0.5", "tiny"])
def test_pyramiddrop(case: str) -> None:
    check_pyramiddrop(case, GoldenLlava.run)
