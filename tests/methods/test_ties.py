"""Equal tokens get equal scores, to the last bit, wherever they stand: only then do the first of equal ones win."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.methods.synthetic import decoder_signals
from vlmprune.engine.hooks import attention_rows
from vlmprune.engine.prompt_state import SequenceState, trailing_attention
from vlmprune.engine.signals import received_attention
from vlmprune.methods.base import Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV
from vlmprune.methods.pitome import elu
from vlmprune.methods.pyramiddrop import PyramidDrop
from vlmprune.methods.scm import ScaleCompression
from vlmprune.methods.sparsevlm import SparseVLM
from vlmprune.methods.tensor_ops import BLOCK, pairwise_mean, pairwise_sum, products, unit
from vlmprune.methods.vtc_cls import VtcCls

LENGTHS = [*range(1, 34), 36, 63, 65, 112, 257, 576, 577, 653]


def equal(scores: Tensor) -> bool:
    """True if all entries along the last dimension are the same."""
    return bool((scores == scores[..., :1]).all())


def alike(*shape: int) -> Tensor:
    """Random numbers of `shape`, every column the same."""
    return torch.rand(*shape[:-1], 1).expand(shape).contiguous()


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 7, 8, 12, 14, 16, 28, 32, 40])
def test_sums_over_heads_rows_and_layers(heads: int) -> None:
    torch.manual_seed(heads)
    for batch, n in itertools.product((1, 2, 3), LENGTHS):
        x = alike(batch, heads, 1 + n)[..., 1:]  # as attention without that of [CLS]
        assert equal(pairwise_mean(x, dim=1))
        assert equal(pairwise_sum(alike(heads, batch, n), dim=0))
        assert equal(pairwise_sum(pairwise_sum(alike(batch, 2, heads, n), dim=2), dim=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 32])
def test_the_sum_is_the_sum(n: int, dtype: torch.dtype) -> None:
    x = torch.randn(4, n, 6, generator=torch.Generator().manual_seed(n)).to(dtype)
    total = pairwise_sum(x, dim=1)
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(total.double(), x.double().sum(dim=1), rtol=1e-5, atol=1e-5)
    if n:
        assert torch.equal(pairwise_mean(x, dim=1), total / n)


@pytest.mark.parametrize("width", [8, 64, 80, 128])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (14, 2), (16, 16), (8, 1), (1, 1)])
def test_attention_of_equal_keys(heads: int, groups: int, width: int) -> None:
    torch.manual_seed(width)
    for batch, rows, n in itertools.product((1, 2), (1, 2, 7), LENGTHS):
        query = torch.randn(batch, heads, rows, width)
        key = torch.randn(batch, groups, 1, width).expand(-1, -1, n, -1)
        key = torch.cat([key, torch.randn(batch, groups, 1, width)], dim=2)  # and one other at the end
        assert equal(attention_rows(query, key, None, width**-0.5)[..., :-1]), (batch, rows, n)
        received = received_attention(query, key, None, width**-0.5)
        assert equal(pairwise_mean(received, dim=1)[..., :-1]), (batch, rows, n)


def test_attention_of_equal_keys_among_others() -> None:
    """Two equal keys at any two places, in float32 and in half precision; rows of their own and of a running prompt."""
    generator = torch.Generator().manual_seed(0)
    for dtype, n in itertools.product((torch.float32, torch.bfloat16), (36, 112, 577)):
        query = torch.randn(1, 4, n, 64, generator=generator).to(dtype)
        key = torch.randn(1, 4, n, 64, generator=generator).to(dtype)
        key[:, :, n - 2] = key[:, :, 0]  # among the last columns, which a block leaves over
        ends = received_attention(query, key, None, 0.125)[..., [0, n - 2]]
        assert torch.equal(ends[..., 0], ends[..., 1])
        everywhere = torch.ones(1, n, dtype=torch.bool)
        running = SequenceState.from_prompt(everywhere, everywhere, everywhere, True, n)
        ends = trailing_attention(query, key, running, 0.125)[..., [0, n - 2]]
        assert torch.equal(ends[..., 0], ends[..., 1])


def test_products_of_equal_rows() -> None:
    torch.manual_seed(0)
    for batch, n, m, width in itertools.product((1, 2), (1, 2, 5, 11, 12, 48, 566), (*range(1, 34), 64), (8, 64, 128)):
        y = torch.randn(batch, 1, width).expand(-1, m, -1).contiguous()
        x = torch.randn(batch, n, width)
        assert equal(products(x, y)), (batch, n, m, width)
        torch.testing.assert_close(products(x, y), x @ y.mT)


def test_cosines_of_equal_tokens() -> None:
    torch.manual_seed(0)
    for n, width in itertools.product((*range(1, 34), 64, 577), (8, 64, 100)):
        x = unit(torch.randn(1, 1, width).expand(-1, n, -1).contiguous())
        assert equal(products(x, x)), (n, width)
        assert equal(elu(products(x, x) - 1.5)), (n, width)
        if n >= BLOCK:
            assert equal(products(x, x).flatten(1)), (n, width)


@pytest.mark.parametrize("n", [9, 33, 65, 577, 653])
def test_the_first_of_equal_tokens_win(n: int) -> None:
    torch.manual_seed(n)
    first = [*range(n // 2)]
    for heads in (3, 14, 16):
        attention = alike(2, 2, heads, 1 + n)[..., 1:] / (1 + n)
        signals = Signals(grid=(1, n), images=2, cls_attention=attention)
        for method in (ClsAttention(keep=n // 2), VtcCls(keep=n // 2)):
            assert method.select(signals, n // 2).indices.tolist() == [first] * 2
        inside = decoder_signals(alike(2, heads, 5, n) / n)
        for method in (FastV(), PyramidDrop(), SparseVLM(), ScaleCompression()):
            assert equal(method.score(inside)), type(method)
