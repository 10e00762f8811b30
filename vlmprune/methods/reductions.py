"""Sums and means over heads, rows and layers, with the same order of additions for all tokens."""

import torch
from torch import Tensor

from vlmprune.methods.similarity import at_least_float32


def pairwise_sum(x: Tensor, dim: int) -> Tensor:
    """Return the sum of `x` over `dim`, in float32 at least, by adding its second half to the first repeatedly.

    `Tensor.sum` adds the columns that fill a vector register in one order and those left over in another, so that
    equal columns may differ in the last bit and a tie is missed. Here all are added in the same order, on every
    device.
    """
    x = at_least_float32(x)
    while (n := x.shape[dim]) > 1:
        half = n // 2
        pairs = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
        x = torch.cat([pairs, x.narrow(dim, n - 1, 1)], dim=dim) if n % 2 else pairs
    return x.sum(dim=dim)


def pairwise_mean(x: Tensor, dim: int) -> Tensor:
    """Return the mean of `x` over `dim`, in float32 at least, added in the order of `pairwise_sum`."""
    return pairwise_sum(x, dim) / x.shape[dim]
