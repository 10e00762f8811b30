"""LLaVA-OneVision: 25 patches a tile, up to 2 x 3 tiles, shrunk above 2 x 25 x 1.21 tokens; 3 frames of 9 tokens."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    LlavaOnevisionProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from tests.toy_models import TEXT, VISION, left_padded, toy_model, unpadded

IMAGE, VIDEO = 97, 98
MIXED = ["vi", "v", "i", ""]  # per prompt: v a video, i an image
SIDE, TILE, FRAMES = 5, 40, 3
VIDEO_SLOTS = FRAMES * 9 + 1
PINPOINTS = [[TILE * rows, TILE * columns] for rows in (1, 2) for columns in (1, 2, 3)]
ASPECT = "anyres_max_2"
SIZES = [(40, 40), (100, 60), (35, 90), (80, 120)]  # a whole tile; unpadded in width and in height; shrunk
ARGUMENTS = inspect.signature(LlavaOnevisionModel.get_video_features).parameters
VIDEO_PIXELS = "pixel_values_videos" if "pixel_values_videos" in ARGUMENTS else "pixel_values"  # transformers 5.17


def make(attention: str = "sdpa") -> LlavaOnevisionForConditionalGeneration:
    vision = VISION | {"num_hidden_layers": 4, "image_size": TILE, "patch_size": TILE // SIDE}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision, vision_use_head=False),
        text_config=Qwen2Config(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio=ASPECT,
    )
    return toy_model(LlavaOnevisionForConditionalGeneration, config, attention)


def image_slots(size: tuple[int, int]) -> int:
    """Tokens that transformers' processor counts for the single image of a prompt."""
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=PINPOINTS),
        num_image_tokens=SIDE**2,
        vision_aspect_ratio=ASPECT,
    )
    processor._get_unpadded_features = lambda *args: LlavaOnevisionProcessor._get_unpadded_features(processor, *args)
    return LlavaOnevisionProcessor._get_number_of_features(processor, *size, TILE, TILE)


def prompts(texts: list[int], media: list[str], seed: int) -> dict[str, torch.Tensor]:
    """Left-padded prompts of `texts` text tokens; media: per prompt, "i" for an image and "v" for a video, in order.

    Images take the four `SIZES` in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, sizes = [], []
    for length, kinds in zip(texts, media, strict=True):
        words = torch.randint(3, IMAGE, (length,), generator=generator)
        row = [words[:3]]
        for kind in kinds:
            if kind == "i":
                sizes.append(SIZES[len(sizes) % len(SIZES)])
                row.append(torch.full((image_slots(sizes[-1]) if kinds.count("i") == 1 else SIDE**2 + 1,), IMAGE))
            else:
                row.append(torch.full((VIDEO_SLOTS,), VIDEO))
        rows.append(torch.cat([*row, words[3:]]))
    inputs = left_padded(rows)
    kinds = "".join(media)
    if sizes:
        inputs["pixel_values"] = torch.rand(len(sizes), 7, 3, TILE, TILE, generator=generator)
        inputs["image_sizes"] = torch.tensor(sizes)
        inputs["batch_num_images"] = torch.tensor([row.count("i") for row in media if "i" in row])
    if "v" in kinds:
        inputs["pixel_values_videos"] = torch.rand(kinds.count("v"), FRAMES, 3, TILE, TILE, generator=generator)
    return inputs


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    return prompts(texts, ["i" * media] * len(texts), seed)


def video_batch(texts: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    return prompts(texts, ["v"] * len(texts), seed)


def mixed_batch() -> dict[str, torch.Tensor]:
    return prompts([9, 6, 8, 12], MIXED, 0)


def one_of(given: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row `row` alone, without its padding."""
    alone = unpadded(given, row)
    pictured = (given["input_ids"] == IMAGE).any(1)
    if pictured[row]:
        prompt = int(pictured[:row].sum())
        numbers = given["batch_num_images"]
        first = int(numbers[:prompt].sum())
        for name in ("pixel_values", "image_sizes"):
            alone[name] = given[name][first : first + int(numbers[prompt])]
        alone["batch_num_images"] = numbers[prompt : prompt + 1]
    videos = (given["input_ids"] == VIDEO).sum(1) // VIDEO_SLOTS
    if videos[row]:
        first = int(videos[:row].sum())
        alone["pixel_values_videos"] = given["pixel_values_videos"][first : first + int(videos[row])]
    return alone


def slots(given: dict[str, torch.Tensor]) -> list[int]:
    """Visual slots of each prompt."""
    return (given["input_ids"] >= IMAGE).sum(1).tolist()
