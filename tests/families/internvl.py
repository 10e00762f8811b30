"""InternVL: tiles of 12 x 12 patches, 36 visual tokens each; pictures of one tile or of two and a thumbnail."""

from __future__ import annotations

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

from tests.toy_models import TEXT, VISION, left_padded, toy_model, unpadded

START, IMAGE, END = 96, 97, 98
TOKENS = 36


def make(attention: str = "sdpa", **text) -> InternVLForConditionalGeneration:
    vision = VISION | {"num_hidden_layers": 4, "image_size": 96, "patch_size": 8, "layer_scale_init_value": 0.5}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**vision),
        text_config=Qwen2Config(**TEXT | {"max_position_embeddings": 2048} | text),
        image_token_id=IMAGE,
        image_seq_length=TOKENS,
        tie_word_embeddings=False,
    )
    model = toy_model(InternVLForConditionalGeneration, config, attention, scale=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "cls_token" in name or "position_embeddings" in name:
                parameter.normal_(std=0.1)  # transformers starts them at zero
            elif "lambda" not in name:
                parameter.mul_(3)
    return model


def batch(texts: list[int], media: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows, tiles = [], 0
    for index, length in enumerate(texts):
        words = torch.randint(3, 95, (length - 2 * media,), generator=generator)
        pictures = []
        for number in range(media):
            count = (1, 3)[(index + number) % 2]
            pictures += [START, *[IMAGE] * (count * TOKENS), END]
            tiles += count
        rows.append(torch.cat([words[:1], torch.tensor(pictures), words[1:]]))
    return left_padded(rows) | {"pixel_values": torch.rand(tiles, 3, 96, 96, generator=generator)}


def one_of(given: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    tiles = [count // TOKENS for count in slots(given)]
    return unpadded(given, row) | {"pixel_values": given["pixel_values"].split(tiles)[row]}


def slots(given: dict[str, torch.Tensor]) -> list[int]:
    return (given["input_ids"] == IMAGE).sum(1).tolist()


video_batch = None  # a video is a series of one-tile pictures
