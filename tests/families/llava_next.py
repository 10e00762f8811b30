"""LLaVA-NeXT: 4 x 4 patches a tile, images of several shapes, so that padding, newlines and ragged tiles occur."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextForConditionalGeneration

from vlmprune.models.llava_next import LlavaNext

IMAGE_TOKEN, SIDE, TILE = 98, 4, 16
PINPOINTS = [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]
SIZES = [(30, 40), (20, 60), (32, 32), (45, 17), (33, 24)]  # height, width


def make(attention: str = "sdpa") -> LlavaNextForConditionalGeneration:
    torch.manual_seed(0)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=TILE,
            patch_size=TILE // SIDE,
            projection_dim=32,
        ),
        text_config=LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=99,
            max_position_embeddings=512,
        ),
        image_grid_pinpoints=PINPOINTS,
        image_token_id=IMAGE_TOKEN,
    )
    model = LlavaNextForConditionalGeneration._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


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
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    pixels = torch.zeros(len(sizes), max(image.tiles for image in geometry), 3, TILE, TILE)
    for index, image in enumerate(geometry):
        pixels[index, : image.tiles] = torch.rand(image.tiles, 3, TILE, TILE, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels, "image_sizes": torch.tensor(sizes)}


def one_of(given: dict, row: int) -> dict:
    media = len(given["pixel_values"]) // len(given["input_ids"])
    length = int(given["attention_mask"][row].sum())
    images = slice(row * media, (row + 1) * media)
    return {
        "input_ids": given["input_ids"][row : row + 1, -length:],
        "attention_mask": given["attention_mask"][row : row + 1, -length:],
        "pixel_values": given["pixel_values"][images],
        "image_sizes": given["image_sizes"][images],
    }


def slots(given: dict) -> list[int]:
    return (given["input_ids"] == IMAGE_TOKEN).sum(1).tolist()
