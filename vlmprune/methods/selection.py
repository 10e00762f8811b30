"""Return value of methods before the language model: the kept visual tokens and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass
class Selection:
    """Kept visual tokens of every image, in output order.

    indices: int64 [B, k], the source slot that each output token takes: 0 to N - 1, none twice in an image. k is the
        requested number, or the largest of the batch where the method is adaptive and gives `valid`.
    features: None to keep the tokens as they are, or [B, k, C] new embeddings (merging) before the projector,
        [B, k, D] after it where the method reads `projected`; finite floats.
    valid: None if every image keeps k, or bool [B, k] if an adaptive method keeps fewer of some images: their first.
    blocks: None, or the block number of each of the k tokens, for their order where several tiles make up one image
        (LLaVA-NeXT, renumbered): after the first tile's own tokens, block 0 of all others, which are patches in the
        image's raster order, then block 1 tile by tile, and so on. Not together with `valid`.
    unsound: None, or bool [B], True where a score was nan, so that the choice means nothing and the prompt is refused.
    """

    indices: Tensor
    features: Tensor | None = None
    valid: Tensor | None = None
    blocks: tuple[int, ...] | None = None
    unsound: Tensor | None = None


def top_k(score: Tensor, k: int, *, keep_order: Literal["spatial", "score"] = "spatial") -> Tensor:
    """Return the indices, int64 [..., k], of the k largest scores; of equal ones the lowest index, on every device.

    Equal means to the last bit. Sums of equal columns over heads, rows or layers are equal if `pairwise_sum` adds them;
    attention and cosines of equal tokens are equal in the cases that `similarity.products` names.
    `spatial` sorts them ascending (raster order), `score` leaves the best first.
    """
    order = torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :k]
    return order.sort(dim=-1).values if keep_order == "spatial" else order
