"""One Llama decoder layer in plain torch, to make the signals of recorded vectors without an engine."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(width: int) -> Tensor:
    """Radians per position of a head of `width`."""
    return 10000 ** -(torch.arange(0, width, 2) / width)


def layer(weights: dict[str, Tensor], name: str, x: Tensor, positions: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """x [1, L, D] at positions [L] -> (output [1, L, D], attention [1, heads, L, L])."""

    def project(y: Tensor, part: str) -> Tensor:
        return y @ weights[f"{name}.{part}"].T

    def norm(y: Tensor, part: str) -> Tensor:
        return y / (y.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * weights[f"{name}.{part}"]

    def split(y: Tensor) -> Tensor:
        return y.unflatten(2, (heads, -1)).transpose(1, 2)

    def rotate(y: Tensor) -> Tensor:
        angle = positions[:, None] * frequencies(y.shape[-1])
        first, second = y.chunk(2, dim=-1)
        turned = first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()
        return torch.cat(turned, dim=-1)

    normed = norm(x, "ln1")
    query, key, value = (split(project(normed, part)) for part in "qkv")
    logits = rotate(query) @ rotate(key).mT / query.shape[-1] ** 0.5
    causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    attention = logits.masked_fill(~causal, -torch.inf).softmax(dim=-1)
    x = x + project((attention @ value).transpose(1, 2).flatten(2), "o")
    normed = norm(x, "ln2")
    return x + project(torch.nn.functional.silu(project(normed, "gate")) * project(normed, "up"), "down"), attention
