"""Prompts of tiny models with media anywhere: first, in the middle or last, none or several.

A prompt is a tuple of pieces: a number is a run of so many words, "i2" an image of the family's third size, "v0" a
video. The same piece at the same place has the same words and pixels whatever stands beside it in the batch.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Prompt = tuple[int | str, ...]
Medium = tuple[list[int], dict[str, Tensor]]  # ids of its placeholders, and its tensors

SIZES = {"llava": 1, "internvl": 3, "llava_next": 5, "llava_onevision": 4, "qwen2_5_vl": 3, "qwen3_vl": 3}
VIDEOS = {"llava_onevision", "qwen2_5_vl", "qwen3_vl", "video_llava"}
WORDS = 90  # ids from 3 on that no family uses for anything else


def pieces_of(family: str) -> list[str]:
    """The media that prompts of a family may hold."""
    return [f"i{size}" for size in range(SIZES.get(family, 1))] + ["v0"] * (family in VIDEOS)


def module_of(family: str) -> ModuleType:
    """The family's file in tests/families."""
    return import_module(f"tests.families.{family}")


@cache
def model_of(family: str, attention: str = "sdpa", precision: str = "float32") -> Any:
    """The family's tiny model, one per process, used once: transformers leaves attributes of its own."""
    model = module_of(family).make(attention).to(getattr(torch, precision))
    inputs = batch_of(family, [(2, *dict.fromkeys(piece[0] + "0" for piece in pieces_of(family)), 2)], 0)
    pixels = {name: value.to(model.dtype) for name, value in inputs.items() if value.is_floating_point()}
    with torch.no_grad():
        for cache in ("dynamic", "static"):
            model.generate(**inputs | pixels, cache_implementation=cache, max_new_tokens=2, pad_token_id=0)
    return model


def batch_of(family: str, prompts: list[Prompt], seed: int, rows: list[int] | None = None) -> dict[str, Tensor]:
    """Left-padded inputs of a model. rows: the numbers that the prompts have in the whole batch."""
    texts, tensors, pictured = [], [], []
    for row, prompt in zip(rows or range(len(prompts)), prompts, strict=True):
        ids: list[int] = []
        images = sum(str(piece).startswith("i") for piece in prompt)
        for place, piece in enumerate(prompt):
            generator = torch.Generator().manual_seed(seed * 1000 + row * 100 + place)
            if isinstance(piece, int):
                ids += words(piece, generator)
            else:
                placeholders, own = medium(family, piece, images == 1, generator)
                ids += placeholders
                tensors.append(own)
        texts.append(torch.tensor(ids))
        pictured += [images] * (images > 0)
    longest = max(map(len, texts))
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in texts])
    lengths = torch.tensor([len(row) for row in texts]).unsqueeze(1)
    mask = (torch.arange(longest) >= longest - lengths).long()
    inputs = {"input_ids": ids, "attention_mask": mask}
    for name in dict.fromkeys(name for own in tensors for name in own):
        inputs[name] = torch.cat([own[name] for own in tensors if name in own])
    if family == "llava_onevision" and pictured:
        inputs["batch_num_images"] = torch.tensor(pictured)
    if family.startswith("qwen"):
        names = module_of("qwen2_5_vl")
        inputs["mm_token_type_ids"] = (ids == names.IMAGE).int() + 2 * (ids == names.VIDEO).int()
    return inputs


def words(count: int, generator: torch.Generator) -> list[int]:
    """Ids of random words."""
    return torch.randint(3, WORDS, (count,), generator=generator).tolist()


def with_hole(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same prompts with the first word of each hidden by the mask, if another token follows it."""
    mask = inputs["attention_mask"].clone()
    for row, ids in enumerate(inputs["input_ids"][:, :-1]):
        words = ((ids < WORDS) & mask[row, :-1].bool()).nonzero()
        if len(words):
            mask[row, words[0]] = 0
    return inputs | {"attention_mask": mask}


TEXTS = ("input_ids", "attention_mask", "mm_token_type_ids")


def longer(inputs: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """The same prompts with the text `ids`, int64 [B, n], behind them."""
    return joined(inputs, {"input_ids": ids, "mm_token_type_ids": torch.zeros_like(ids).int()})


def joined(inputs: dict[str, Tensor], more: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same prompts with others, of one length, behind them. Media are in order where there is one prompt."""
    mask = torch.ones_like(more["input_ids"]).to(inputs.get("attention_mask", more["input_ids"]).dtype)
    both, more = dict(inputs), more | {"attention_mask": mask}
    for name, value in more.items():
        if name in inputs:
            both[name] = torch.cat([inputs[name], value], dim=1 if name in TEXTS else 0)
        elif name not in TEXTS:
            both[name] = value
    return both


def medium(family: str, piece: str, single: bool, generator: torch.Generator) -> Medium:
    """A piece of a prompt that shows something. single: whether it is the only image there."""
    size, video = int(piece[1:]), piece[0] == "v"
    names = module_of(family)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    if family == "llava":
        return [98] * 36, {"pixel_values": pixels(1, 3, 48, 48)}
    if family == "internvl":
        tiles = (1, 3, 2)[size]
        return [names.START, *[names.IMAGE] * (names.TOKENS * tiles), names.END], {
            "pixel_values": pixels(tiles, 3, 96, 96)
        }
    if family == "llava_next":
        slots = geometry(size).slots
        shown = {"pixel_values": pixels(1, 5, 3, names.TILE, names.TILE)}
        return [names.IMAGE_TOKEN] * slots, shown | {"image_sizes": torch.tensor([names.SIZES[size]])}
    if family == "video_llava" and video:
        return [names.VIDEO] * (names.FRAMES * 37), {"pixel_values_videos": pixels(1, names.FRAMES, 3, 48, 48)}
    if family == "video_llava":
        return [names.IMAGE] * names.PATCHES, {names.PIXELS: pixels(1, 3, 48, 48)}
    if family == "llava_onevision" and video:
        shown = {"pixel_values_videos": pixels(1, names.FRAMES, 3, names.TILE, names.TILE)}
        return [names.VIDEO] * names.VIDEO_SLOTS, shown
    if family == "llava_onevision":
        slots = names.image_slots(names.SIZES[size]) if single else names.SIDE**2 + 1
        shown = {"pixel_values": pixels(1, 7, 3, names.TILE, names.TILE)}
        return [names.IMAGE] * slots, shown | {"image_sizes": torch.tensor([names.SIZES[size]])}
    return qwen_medium(family, size, video, generator)


def qwen_medium(family: str, size: int, video: bool, generator: torch.Generator) -> Medium:
    names = module_of("qwen2_5_vl")
    steps, height, width = (names.STEPS, *names.FRAME) if video else (1, *names.GRIDS[size])
    pixels = torch.randn(steps * height * width, names.PIXELS, generator=generator)
    token, n = names.VIDEO if video else names.IMAGE, height * width // 4
    grid = torch.tensor([(steps, height, width)])
    if not video:
        return [names.START, *[token] * n, names.END], {"pixel_values": pixels, "image_grid_thw": grid}
    shown = {"pixel_values_videos": pixels, "video_grid_thw": grid}
    if family == "qwen3_vl":  # each step of a video stands by itself
        return [names.START, *[token] * n, names.END] * steps, shown
    return [names.START, *[token] * (n * steps), names.END], shown


@cache
def geometry(size: int) -> Any:
    """Tiles and slots of an image of LLaVA-NeXT."""
    names = module_of("llava_next")
    return names.LlavaNext(names.make()).geometry(names.SIZES[size])
