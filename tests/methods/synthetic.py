"""Random signals for property tests, and one image of a batch of them."""

from __future__ import annotations

import dataclasses

import torch

from vlmprune.methods.base import Selection, Signals
from vlmprune.methods.decoder_method import DecoderSignals

LAYERED = {"cls_attention", "received_attention", "keys", "queries"}  # [layers, B, ...]; all others [B, ...]


def random_signals(images: int = 3, grid: tuple[int, int] = (6, 8), seed: int = 0) -> Signals:
    """All signals of `images` random images, 2 layers, 2 heads, widths 8 and 10."""
    n, generator = grid[0] * grid[1], torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Signals(
        grid=grid,
        images=images,
        seeds=[1000 * seed + image for image in range(images)],
        cls_attention=(2 * normal(2, images, 2, 1 + n)).softmax(dim=-1)[..., 1:],
        received_attention=(2 * normal(2, images, 2, n)).softmax(dim=-1),
        keys=normal(2, images, 2, 1 + n, 4),
        queries=2 * normal(2, images, 2, 1 + n, 4),
        features=normal(images, n, 8),
        cls_feature=normal(images, 8),
        projected=normal(images, n, 10),
        text_relevance=normal(images, n) / 10,
    )


def image_of(signals: Signals, image: int) -> Signals:
    """The signals of one image alone."""
    tensors = {
        field.name: getattr(signals, field.name).narrow(int(field.name in LAYERED), image, 1)
        for field in dataclasses.fields(signals)
        if isinstance(getattr(signals, field.name), torch.Tensor)
    }
    return dataclasses.replace(signals, images=1, seeds=[signals.seeds[image]], **tensors)


def in_dtype(signals: Signals, dtype: torch.dtype) -> Signals:
    """The signals in another floating-point type."""
    fields = vars(signals).items()
    tensors = {name: value.to(dtype) for name, value in fields if isinstance(value, torch.Tensor)}
    return dataclasses.replace(signals, **tensors)


def kept_of(selection: Selection, image: int) -> list[int]:
    """The valid source slots of one image, in output order."""
    indices = selection.indices[image]
    return (indices if selection.valid is None else indices[selection.valid[image]]).tolist()


def decoder_signals(attention: torch.Tensor, visual: torch.Tensor | None = None) -> DecoderSignals:
    """Signals of a method inside the decoder, from attention rows [B, H, R, L] and bool [B, L]; the rest is blank."""
    batch, _, rows, length = attention.shape
    everywhere = torch.ones(batch, length, dtype=torch.bool)
    visual = everywhere if visual is None else visual
    return DecoderSignals(
        attention=attention,
        raters=everywhere[:, :rows],
        hidden=torch.zeros(batch, length, 1),
        visual=visual,
        detail=visual,
        valid=everywhere,
        positions=torch.arange(length).expand(batch, -1),
        frequencies=torch.ones(1),
    )
