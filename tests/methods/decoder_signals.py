"""Random signals of methods inside the language model: a batch of prompts that differ in images and text."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tests.methods.llama import frequencies
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSignals

PAD, TEXT, IMAGE = 0, 1, 2
LAYOUTS = [  # left-padded rows of one batch: several images, other text lengths
    [TEXT] * 3 + [IMAGE] * 36 + [TEXT] * 9,
    [PAD] * 2 + [TEXT] + [IMAGE] * 20 + [TEXT] * 4 + [IMAGE] * 16 + [TEXT] * 5,
    [PAD] * 20 + [TEXT] * 2 + [IMAGE] * 20 + [TEXT] * 6,
]


def batch(rows: list[list[int]], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(embeddings [B, L, 6], visual, valid) of rows of PAD, TEXT and IMAGE."""
    kinds = torch.tensor(rows)
    embeds = torch.randn(*kinds.shape, 6, generator=torch.Generator().manual_seed(seed))
    return embeds, kinds == IMAGE, kinds != PAD


def signals_of(rows: list[list[int]], method: DecoderMethod, seed: int = 0) -> DecoderSignals:
    """Random signals of a batch; the last nine positions' attention rows, two heads."""
    embeds, visual, valid = batch(rows, seed)
    logits = 3 * torch.randn(len(rows), 2, 9, visual.shape[1], generator=torch.Generator().manual_seed(seed + 1))
    attention = logits.masked_fill(~valid[:, None, None], -torch.inf).softmax(dim=-1)
    asked = method.raters(embeds, visual, valid)
    raters = (torch.arange(visual.shape[1]).expand_as(visual) == visual.shape[1] - 1 if asked is None else asked)[
        :, -9:
    ]
    positions = (valid.cumsum(1) - 1).clamp(min=0)
    return DecoderSignals(attention, raters, embeds, visual, visual, valid, positions, frequencies(4))


def row_of(signals: DecoderSignals, row: int) -> DecoderSignals:
    """The signals of one sample, with its padding."""
    fields = {name: value[row : row + 1] for name, value in vars(signals).items() if name != "frequencies"}
    return dataclasses.replace(signals, **fields)
