"""Tiny random LLaVA checkpoints, made from a config: no hub, no download."""

from __future__ import annotations

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports transformers: nothing here may wait for a network
os.environ["WANDB_MODE"] = "offline"

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

# A shell that starts the tests in the background has Ctrl-C ignored, here and in every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

IMAGE_TOKEN = 98
PATCHES = 36


def make_llava(
    attention: str = "sdpa", layers: int = 6, seed: int = 0, width: int = 32
) -> LlavaForConditionalGeneration:
    """A LLaVA with 36 visual tokens, 5 vision layers and a GQA decoder, weights large enough for distinct logits.

    width: of the decoder, which has 4 heads.
    """
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=48,
            patch_size=8,
            projection_dim=32,
        ),
        text_config=LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=99,
            max_position_embeddings=512,
        ),
        image_token_id=IMAGE_TOKEN,
        image_seq_length=PATCHES,
    )
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def make_batch(texts: list[int], images: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Left-padded prompts of `texts` text tokens and `images` images each."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in texts:
        words = torch.randint(3, 97, (length,), generator=generator)
        rows.append(torch.cat([words[:3], torch.full((PATCHES * images,), IMAGE_TOKEN), words[3:]]))
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    pixels = torch.rand(len(texts) * images, 3, 48, 48, generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def one_of(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row `row` alone, without its padding."""
    images = len(batch["pixel_values"]) // len(batch["input_ids"])
    length = int(batch["attention_mask"][row].sum())
    return {
        "input_ids": batch["input_ids"][row : row + 1, -length:],
        "attention_mask": batch["attention_mask"][row : row + 1, -length:],
        "pixel_values": batch["pixel_values"][row * images : (row + 1) * images],
    }


@pytest.fixture(params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> LlavaForConditionalGeneration:
    return make_llava(request.param)


@pytest.fixture
def sdpa_model() -> LlavaForConditionalGeneration:
    return make_llava("sdpa")
