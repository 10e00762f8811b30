"""What a method before the language model returns: which visual tokens go on, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass
class Selection:
    """Which visual tokens go on, in output order.

    indices: int64 [B, k], the source slot that each output token takes: 0 to N - 1, none twice in an image. k is what
        was asked for, or the longest of the batch where the method is adaptive and gives `valid`.
    features: None to keep the tokens as they are, or [B, k, C] new embeddings (merging) before the projector,
        [B, k, D] after it where the method reads `projected`; finite floats.
    valid: None where every image keeps k, or bool [B, k] where an adaptive method keeps fewer of some: its first ones.
    blocks: None, or k numbers that say in which order tokens come where several tiles are stitched into one picture
        (LLaVA-NeXT, renumbered): after the first tile's own tokens, block 0 of all others, which are patches in the
        picture's raster order, then block 1 tile by tile, and so on. Not together with `valid`.
    unsound: None, or bool [B], True where a score was nan, so that the choice means nothing and the prompt is refused.
    """

    indices: Tensor
    features: Tensor | None = None
    valid: Tensor | None = None
    blocks: tuple[int, ...] | None = None
    unsound: Tensor | None = None


def top_k(score: Tensor, k: int, *, keep_order: Literal["spatial", "score"] = "spatial") -> Tensor:
    """Indices int64 [..., k] of the k largest scores; of equal scores the lowest index wins, on every device.

    Equal means to the last bit. Scores that are sums over heads, rows or layers of equal columns are, if `pairwise_sum`
    adds them up; attention and cosines of equal tokens are as far as `similarity.products` says.
    `spatial` sorts them ascending (raster order), `score` leaves the best first.
    """
    order = torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :k]
    return order.sort(dim=-1).values if keep_order == "spatial" else order
