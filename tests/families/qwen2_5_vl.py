"""Qwen2.5-VL: pictures of 5 x 6, 6 x 4 and 3 x 5 tokens; windows of up to 2 x 2; a video of three temporal steps."""

from __future__ import annotations

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tests import toy_models
from tests.toy_models import left_padded, toy_model, unpadded

START, END, VIDEO, IMAGE = 95, 96, 97, 98
GRIDS = [(10, 12), (12, 8), (6, 10)]  # patches
STEPS, FRAME = 3, (8, 12)
PIXELS = 3 * 2 * 4 * 4  # of a patch: channels, frames, rows, columns

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
TEXT = toy_models.TEXT | {"max_position_embeddings": 1024, "rope_parameters": ROPE}
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 4,
    "out_hidden_size": 32,
    "depth": 4,
}


def make(attention: str = "sdpa", **text) -> Qwen2_5_VLForConditionalGeneration:
    vision = VISION | {"window_size": 16, "fullatt_block_indexes": [1, 3]}
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=TEXT | text, **TOKENS)
    return toy_model(Qwen2_5_VLForConditionalGeneration, config, attention)


def prompts(texts: list[int], visual: list[list[int]], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Prompts of so many text tokens, the visual ones after the first word."""
    rows = []
    for length, tokens in zip(texts, visual, strict=True):
        text = length - sum(token not in (IMAGE, VIDEO) for token in tokens)
        words = torch.randint(3, 94, (text,), generator=generator)
        rows.append(torch.cat([words[:1], torch.tensor(tokens), words[1:]]))
    inputs = left_padded(rows)
    ids = inputs["input_ids"]
    return inputs | {"mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int()}


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    grids, visual = [], []
    for index in range(len(texts)):
        own = [GRIDS[(index + number) % len(GRIDS)] for number in range(media)]
        visual.append([token for h, w in own for token in (START, *[IMAGE] * (h * w // 4), END)])
        grids += [(1, h, w) for h, w in own]
    inputs = prompts(texts, visual, generator)
    patches = sum(h * w for _, h, w in grids)
    pixels = torch.randn(patches, PIXELS, generator=generator)
    return inputs | {"pixel_values": pixels, "image_grid_thw": torch.tensor(grids)}


def video_batch(texts: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    return videos(texts, [START, *[VIDEO] * (STEPS * FRAME[0] * FRAME[1] // 4), END], seed)


def mixed_batch() -> dict[str, torch.Tensor]:
    return joined(batch([5]), video_batch([20]))


def joined(picture: dict[str, torch.Tensor], video: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One prompt of a prompt with a picture and one with a video."""
    shared = {name: torch.cat([picture[name], video[name]], 1) for name in picture if name in video}
    return {**picture, **video, **shared}


def videos(texts: list[int], visual: list[int], seed: int) -> dict[str, torch.Tensor]:
    """A video of STEPS temporal steps a prompt, its placeholders `visual`."""
    generator = torch.Generator().manual_seed(seed)
    inputs = prompts(texts, [visual] * len(texts), generator)
    pixels = torch.randn(len(texts) * STEPS * FRAME[0] * FRAME[1], PIXELS, generator=generator)
    return inputs | {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([(STEPS, *FRAME)] * len(texts))}


def one_of(given: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    alone = unpadded(given, row, "mm_token_type_ids")
    for pixels, grid in (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")):
        if pixels in given:
            each = len(given[grid]) // len(given["input_ids"])
            own = given[grid].split(each)
            alone[grid] = own[row]
            alone[pixels] = given[pixels].split([int(sizes.prod(1).sum()) for sizes in own])[row]
    return alone


def slots(given: dict[str, torch.Tensor]) -> list[int]:
    return given["mm_token_type_ids"].bool().sum(1).tolist()
