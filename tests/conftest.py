"""Tiny random LLaVA checkpoints, made from a config: no hub, no download."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import ModuleType

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports transformers: nothing here may wait for a network
os.environ["WANDB_MODE"] = "offline"

import pytest
import torch
from transformers import LlamaConfig, LlavaForConditionalGeneration

from tests.toy_models import FAMILIES, TEXT, left_padded, toy_llava, unpadded

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
    text = LlamaConfig(**TEXT | {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers})
    return toy_llava(text, IMAGE_TOKEN, attention=attention, seed=seed)


def make_batch(texts: list[int], images: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Left-padded prompts of `texts` text tokens and `images` images each."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in texts:
        words = torch.randint(3, 97, (length,), generator=generator)
        rows.append(torch.cat([words[:3], torch.full((PATCHES * images,), IMAGE_TOKEN), words[3:]]))
    pixels = torch.rand(len(texts) * images, 3, 48, 48, generator=generator)
    return left_padded(rows) | {"pixel_values": pixels}


def one_of(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row `row` alone, without its padding."""
    images = len(batch["pixel_values"]) // len(batch["input_ids"])
    return unpadded(batch, row) | {"pixel_values": batch["pixel_values"][row * images : (row + 1) * images]}


@pytest.fixture(params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> LlavaForConditionalGeneration:
    return make_llava(request.param)


@pytest.fixture
def sdpa_model() -> LlavaForConditionalGeneration:
    return make_llava("sdpa")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> ModuleType:
    """The module of tests/families that makes a family's models and prompts."""
    return import_module(f"tests.families.{request.param}")
