"""The CLIP-style vision tower: its shape, its start and how it encodes pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from scripts.tiny_model.scenes import GRID, IMAGE_SIZE, PATCH_SIZE

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def build_tower() -> CLIPVisionModel:
    """A small CLIPVisionModel; positions start as 2-D sines: from a tiny random start left/right is not learned."""
    config = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=5,
        num_attention_heads=6,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=192,
        attn_implementation="sdpa",
    )
    tower = CLIPVisionModel(config)
    with torch.no_grad():
        inner(tower).embeddings.position_embedding.weight[1:] = 0.3 * _sincos_2d(config.hidden_size)
    return tower


def inner(tower: CLIPVisionModel) -> nn.Module:
    """The module with embeddings and encoder; older transformers 5 releases keep it one level down."""
    return getattr(tower, "vision_model", tower)


def _sincos_2d(width: int) -> Tensor:
    """Sine and cosine of row and column, float (144, width)."""
    rates = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(GRID)[:, None] * rates
    line = torch.cat((angles.sin(), angles.cos()), 1)
    rows = line[:, None].expand(GRID, GRID, -1)
    columns = line[None].expand(GRID, GRID, -1)
    return torch.cat((rows, columns), -1).reshape(GRID * GRID, width)


def normalise(images: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """uint8 (B, 144, 144, 3) to CLIP-normalised float (B, 3, 144, 144), as CLIPImageProcessor does."""
    pixels = torch.as_tensor(images).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def encode(tower: CLIPVisionModel, pixels: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Penultimate and last hidden states, each (B, 1 + P, 192); `keep` (B, P) chooses patches, None takes all."""
    body = inner(tower)
    tokens = body.embeddings(pixels)
    if keep is not None:
        patches = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat((tokens[:, :1], patches), 1)
    hidden = body.pre_layrnorm(tokens)
    for layer in body.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return hidden, body.encoder.layers[-1](hidden, None)
