"""Really dropping tokens: gather what stays of every row of a batch into a shorter, left-padded batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Compaction:
    """Where each position of the shorter batch comes from.

    index: int64 [B, n] source positions. valid: bool [B, n], or None where no row needs padding. counts: tokens per
    row, on the host.
    """

    index: Tensor
    valid: Tensor | None
    counts: list[int]

    def gather(self, tensor: Tensor) -> Tensor:
        """[B, L, ...] -> [B, n, ...]; a batch of 1 is broadcast."""
        index = self.index.view(*self.index.shape, *[1] * (tensor.dim() - 2)).expand(-1, -1, *tensor.shape[2:])
        return tensor.expand(len(self.index), *tensor.shape[1:]).gather(1, index)

    def gather_hidden(self, hidden: Tensor) -> Tensor:
        """Like gather, with zeros on padding, so that nothing of a dropped token can reach a softmax."""
        gathered = self.gather(hidden)
        return gathered if self.valid is None else gathered.masked_fill(~self.valid.unsqueeze(-1), 0)

    def gather_flags(self, flags: Tensor) -> Tensor:
        """bool [B, L] -> [B, n], False on padding."""
        gathered = self.gather(flags)
        return gathered if self.valid is None else gathered & self.valid


def compact(keep: Tensor, counts: list[int]) -> Compaction:
    """Plan the batch that holds the True positions of `keep`, bool [B, L], in their order, padded on the left.

    counts: True positions per row. The caller has fetched them, so that this adds no host sync.
    """
    longest = max(counts)
    length = keep.shape[1]
    index = keep.to(torch.uint8).argsort(dim=1, stable=True)[:, length - longest :]
    if min(counts) == longest:
        return Compaction(index, None, counts)
    starts = torch.tensor([longest - count for count in counts], device=keep.device)
    valid = torch.arange(longest, device=keep.device) >= starts.unsqueeze(1)
    return Compaction(index, valid, counts)
