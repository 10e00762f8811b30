"""Tensor operations that several methods share: cosine similarity, and sums in one order of additions."""

import torch
from torch import Tensor

BLOCK = 12  # rows or columns from which MKL's products are uniform


def unit(x: Tensor) -> Tensor:
    """Return `x` [..., C] scaled to length 1, in float32 at least: unit(x) @ unit(y).mT is their cosine.

    The published implementations stay in the model's dtype; in half precision, near ties then decide which of
    two tokens survives, and differently on each device. Half values are exact in float32, so nothing is lost.
    """
    return torch.nn.functional.normalize(at_least_float32(x), dim=-1)


def products(x: Tensor, y: Tensor) -> Tensor:
    """Return `x` [..., n, C] @ `y`.mT [..., C, m]; equal rows of `y` give equal columns, to the last bit.

    CPU libraries multiply columns that do not fill a block by other code, which adds in another order; rows are only
    affected in a matrix times one vector. From `BLOCK` rows and columns on, the plain product, which takes half the
    time, is uniform too. Checked for MKL in float32 (tests/methods/test_ties.py); this does not hold in float64 with
    several rows, nor for one row of odd width alone in its batch.
    """
    n, m, width = x.shape[-2], y.shape[-2], x.shape[-1]
    if min(n, m) >= BLOCK:
        return x @ y.mT
    if n == y.shape[:-2].numel() == 1 and width % 2 == 0:
        # A matrix times one vector, as a batch of two that each have half of the width.
        parts = y.reshape(m, 2, -1).transpose(0, 1) @ x.reshape(2, -1, 1)  # [2, m, 1]
        return (parts[0] + parts[1]).mT.view(*x.shape[:-1], m)
    return (y @ x.mT).mT


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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
