"""Removal of tokens from a batch: the kept positions of every row are gathered into a shorter, left-padded batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprune.errors import UserError


@dataclass
class Compaction:
    """Source of each position of the shorter batch.

    index: int64 [B, n] source positions. valid: bool [B, n], or None where no row needs padding. counts: tokens per
    row, on the host.
    """

    index: Tensor
    valid: Tensor | None
    counts: list[int]

    def gather(self, tensor: Tensor, batch: int = 0) -> Tensor:
        """Shorten [..., B, L, ...] to [..., B, n, ...], with B at dimension `batch`; a batch of 1 is broadcast."""
        before, after = tensor.shape[:batch], tensor.shape[batch + 2 :]
        index = self.index.view(*[1] * batch, *self.index.shape, *[1] * len(after)).expand(*before, -1, -1, *after)
        whole = tensor.expand(*before, len(self.index), *tensor.shape[batch + 1 :])
        return whole.gather(batch + 1, index)

    def gather_hidden(self, hidden: Tensor) -> Tensor:
        """Shorten [B, L, D], with zeros on padding, so that nothing of a dropped token can reach a softmax."""
        gathered = self.gather(hidden)
        return gathered if self.valid is None else gathered.masked_fill(~self.valid.unsqueeze(-1), 0)

    def gather_flags(self, flags: Tensor) -> Tensor:
        """Shorten bool [B, L] to [B, n], False on padding."""
        gathered = self.gather(flags)
        return gathered if self.valid is None else gathered & self.valid


def compact(keep: Tensor, counts: list[int], order: Tensor | None = None, multiple: int = 1) -> Compaction:
    """Plan the batch that holds the True positions of `keep`, bool [B, L], in their order, padded on the left.

    counts: True positions per row. The caller has fetched them, so that this adds no host sync. order: int64 [B, L],
    sort keys of 0 or more, where the new order is not that of the positions. multiple: the new length is rounded up to
    a multiple of it, to the old length at most. Raises UserError for an empty row: its answer would be made of padding.
    """
    if 0 in counts:
        raise UserError("nothing is left of a prompt that is an image alone: add words to it, or keep a visual token")
    length = keep.shape[1]
    longest = min(length, -(-max(counts) // multiple) * multiple)
    key = keep.to(torch.uint8) if order is None else torch.where(keep, order, -1)
    index = key.argsort(dim=1, stable=True)[:, length - longest :]
    if min(counts) == longest:
        return Compaction(index, None, counts)
    starts = torch.tensor([longest - count for count in counts]).to(keep.device, non_blocking=True)
    valid = torch.arange(longest, device=keep.device) >= starts.unsqueeze(1)
    return Compaction(index, valid, counts)
