"""Sums over heads, rows and layers in one order of additions for all tokens."""

import torch
from torch import Tensor

from vlmprune.methods.similarity import at_least_float32


def pairwise_sum(x: Tensor, dim: int) -> Tensor:
    """Sum of `x` over `dim`, in float32 at least: the second half is added to the first until one entry is left.

    `Tensor.sum` adds the columns that fill a vector register in one order and those left over in another, so that
    equal columns may differ in the last bit and a tie is not seen. Here all are added in the same order, on every
    device.
    """
    x = at_least_float32(x)
    while (n := x.shape[dim]) > 1:
        half = n // 2
        pairs = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
        x = torch.cat([pairs, x.narrow(dim, n - 1, 1)], dim=dim) if n % 2 else pairs
    return x.sum(dim=dim)


def pairwise_mean(x: Tensor, dim: int) -> Tensor:
    """Mean of `x` over `dim`, in float32 at least, as `pairwise_sum` adds it up."""
    return pairwise_sum(x, dim) / x.shape[dim]
