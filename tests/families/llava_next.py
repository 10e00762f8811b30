"""LLaVA-NeXT: 4 x 4 patches a tile, images of several shapes, so that padding, newlines and ragged tiles occur."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextForConditionalGeneration

from tests.toy_models import CLIP, TEXT, left_padded, toy_model, unpadded
from vlmprune.models.families.llava_next import LlavaNext

IMAGE_TOKEN, SIDE, TILE = 98, 4, 16
PINPOINTS = [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]
SIZES = [(30, 40), (20, 60), (32, 32), (45, 17), (33, 24)]  # height, width


def make(attention: str = "sdpa") -> LlavaNextForConditionalGeneration:
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**CLIP | {"image_size": TILE, "patch_size": TILE // SIDE}),
        text_config=LlamaConfig(**TEXT),
        image_grid_pinpoints=PINPOINTS,
        image_token_id=IMAGE_TOKEN,
    )
    return toy_model(LlavaNextForConditionalGeneration, config, attention)


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict:
    """Prompts of `texts` text tokens and `media` images each; every image has another size."""
    adapter, generator = LlavaNext(make()), torch.Generator().manual_seed(seed)
    sizes = [SIZES[index % len(SIZES)] for index in range(len(texts) * media)]
    geometry = [adapter.geometry(size) for size in sizes]
    rows = []
    for prompt, length in enumerate(texts):
        words = torch.randint(3, 97, (length,), generator=generator)
        slots = sum(image.slots for image in geometry[prompt * media : (prompt + 1) * media])
        rows.append(torch.cat([words[:3], torch.full((slots,), IMAGE_TOKEN), words[3:]]))
    pixels = torch.zeros(len(sizes), max(image.tiles for image in geometry), 3, TILE, TILE)
    for index, image in enumerate(geometry):
        pixels[index, : image.tiles] = torch.rand(image.tiles, 3, TILE, TILE, generator=generator)
    return left_padded(rows) | {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}


def one_of(given: dict, row: int) -> dict:
    media = len(given["pixel_values"]) // len(given["input_ids"])
    images = slice(row * media, (row + 1) * media)
    return unpadded(given, row) | {name: given[name][images] for name in ("pixel_values", "image_sizes")}


def slots(given: dict) -> list[int]:
    return (given["input_ids"] == IMAGE_TOKEN).sum(1).tolist()
