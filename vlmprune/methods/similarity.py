"""Cosine similarity, as the methods that compare tokens with one another use it."""

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """`x` [..., C] scaled to length 1, in float32 at least: unit(x) @ unit(y).mT is their cosine.

    The published implementations stay in the model's dtype; in half precision, near ties then decide which of
    two tokens survives, and differently on each device. Half values are exact in float32, so nothing is lost.
    """
    return torch.nn.functional.normalize(at_least_float32(x), dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it comes so."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
