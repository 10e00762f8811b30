"""Video-LLaVA: 36 visual tokens an image, 37 a frame ([CLS] among them), 3 frames a video."""

from __future__ import annotations

import inspect

import torch
from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig, VideoLlavaForConditionalGeneration

from tests.toy_models import CLIP, TEXT, left_padded, toy_model, unpadded

IMAGE, VIDEO = 97, 98
MIXED = ["vi", "v", "i", ""]  # per prompt: v a video, i an image
PATCHES, FRAMES = 36, 3
ARGUMENTS = inspect.signature(VideoLlavaForConditionalGeneration.forward).parameters
PIXELS = "pixel_values" if "pixel_values" in ARGUMENTS else "pixel_values_images"  # the latter on transformers 5.17


def make(attention: str = "sdpa", **vision: int) -> VideoLlavaForConditionalGeneration:
    config = VideoLlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP | vision),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_seq_length=PATCHES,
        video_seq_length=FRAMES * (PATCHES + 1),
    )
    return toy_model(VideoLlavaForConditionalGeneration, config, attention)


def prompts(texts: list[int], media: list[str], seed: int) -> dict[str, torch.Tensor]:
    """Left-padded prompts of `texts` text tokens; media: per prompt, "i" for an image and "v" for a video, in order."""
    generator = torch.Generator().manual_seed(seed)
    place = {"i": torch.full((PATCHES,), IMAGE), "v": torch.full((FRAMES * (PATCHES + 1),), VIDEO)}
    rows = []
    for length, kinds in zip(texts, media, strict=True):
        words = torch.randint(3, IMAGE, (length,), generator=generator)
        rows.append(torch.cat([words[:3], *[place[kind] for kind in kinds], words[3:]]))
    inputs = left_padded(rows)
    kinds = "".join(media)
    if "i" in kinds:
        inputs[PIXELS] = torch.rand(kinds.count("i"), 3, 48, 48, generator=generator)
    if "v" in kinds:
        inputs["pixel_values_videos"] = torch.rand(kinds.count("v"), FRAMES, 3, 48, 48, generator=generator)
    return inputs


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    return prompts(texts, ["i" * media] * len(texts), seed)


def video_batch(texts: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    return prompts(texts, ["v"] * len(texts), seed)


def mixed_batch() -> dict[str, torch.Tensor]:
    return prompts([9, 6, 8, 12], MIXED, 0)


def media_of(given: dict[str, torch.Tensor]) -> list[tuple[int, int]]:
    """Images and videos of each prompt."""
    ids = given["input_ids"]
    images = (ids == IMAGE).sum(1) // PATCHES
    videos = (ids == VIDEO).sum(1) // (FRAMES * (PATCHES + 1))
    return list(zip(images.tolist(), videos.tolist(), strict=True))


def one_of(given: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row `row` alone, without its padding."""
    alone = unpadded(given, row)
    counts = media_of(given)
    for index, name in enumerate((PIXELS, "pixel_values_videos")):
        first = sum(count[index] for count in counts[:row])
        if counts[row][index]:
            alone[name] = given[name][first : first + counts[row][index]]
    return alone


def slots(given: dict[str, torch.Tensor]) -> list[int]:
    """Visual slots of each prompt."""
    return [images * PATCHES + videos * FRAMES * (PATCHES + 1) for images, videos in media_of(given)]
