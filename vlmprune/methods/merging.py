"""Merging of tokens inside the vision encoder: the number merged after each layer, and the merge itself."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import torch
from torch import Tensor

from vlmprune.methods.tensor_ops import at_least_float32


@dataclass
class Matching:
    """Rows of a sequence of T tokens that merge into others, and the T - r rows that are left, in output order.

    stay: int64 [B, T-r], the input row of each output row, which is unchanged or has others merged into it.
    gone: int64 [B, r], the input rows that are merged away. into: int64 [B, r], the output row that each of them
    becomes part of. [CLS], where there is one, is input and output row 0 and takes part in no merge.
    """

    stay: Tensor
    gone: Tensor
    into: Tensor

    def mean(self, hidden: Tensor) -> Tensor:
        """Return [B, T-r, C] of hidden [B, T, C]: the plain mean of each output row and the rows merged into it.

        As in PiToMe's LLaVA code, the mean is not weighted by the number of patches in a row.
        """
        x = at_least_float32(hidden)
        out, gone = rows_of(x, self.stay), rows_of(x, self.gone)
        # Rows are summed by a matrix product, since the order of summation in scatter_add is not fixed on a GPU.
        together = (self.into.unsqueeze(2) == self.into.unsqueeze(1)).to(x.dtype)  # [B, r, r]
        mean = (rows_of(out, self.into) + together @ gone) / (1 + together.sum(dim=2, keepdim=True))
        first = together.argmax(dim=2)  # all that become part of one row write the same bits
        out[torch.arange(len(x), device=x.device).unsqueeze(1), self.into] = rows_of(mean, first)
        return out.to(hidden.dtype)

    def target(self) -> Tensor:
        """Return int64 [B, T]: the output row that each input row is part of."""
        places = torch.arange(self.stay.shape[1], device=self.stay.device).expand_as(self.stay)
        return torch.cat([places, self.into], dim=1).gather(1, torch.cat([self.stay, self.gone], dim=1).argsort(dim=1))


def counts_at_fraction(n: int, fraction: Decimal, protected: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    """Return how many of `n` patches are merged away after each layer, if each layer keeps `fraction` of its tokens.

    floor(T - T fraction) of T tokens. protected: for each layer, 1 where T counts [CLS], else 0. At most half of the
    patches of a layer, since each pair needs two, and none once `least` patches are left.
    """
    counts: list[int] = []
    for extra in protected:
        length = n + extra
        counts.append(min(int(length - length * fraction), n // 2, n - least))
        n -= counts[-1]
    return tuple(counts)


@cache
def counts_to_reach(n: int, k: int, protected: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many of `n` patches are merged away after each layer, so that exactly `k` are left at the end.

    Every layer keeps the same fraction of its tokens: the largest that ends at `k` or below. If it ends below after
    rounding, the last merging layer merges that many fewer. Raises ValueError if halving in every layer still leaves
    more than `k`.
    """
    fewest = n - sum(counts_at_fraction(n, Decimal(0), protected))
    if k < fewest:
        raise ValueError(
            f"{k} of {n} visual tokens to be kept; allowed: {fewest} or more, since none of {len(protected)} layers "
            "can merge more than half of them"
        )
    low, high = Decimal(0), Decimal(1)  # `low` ends at k or below; the number left grows with the fraction
    for _ in range(64):
        middle = (low + high) / 2
        if n - sum(counts_at_fraction(n, middle, protected)) <= k:
            low = middle
        else:
            high = middle
    return counts_at_fraction(n, low, protected, least=k)


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """Return x [B, T, C] at rows [B, k] as [B, k, C]; a copy of rows is three times as fast as `gather` on a CPU."""
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), rows]
