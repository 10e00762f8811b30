"""Qwen3-VL: Qwen2.5-VL's pictures; three levels of DeepStack; each temporal step of a video stands by itself."""

from __future__ import annotations

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from tests.families import qwen2_5_vl
from tests.families.qwen2_5_vl import END, FRAME, ROPE, START, STEPS, TEXT, TOKENS, VIDEO, VISION
from tests.toy_models import toy_model

batch, one_of, slots = qwen2_5_vl.batch, qwen2_5_vl.one_of, qwen2_5_vl.slots


def make(attention: str = "sdpa", **text) -> Qwen3VLForConditionalGeneration:
    rope = ROPE | {"mrope_interleaved": True}
    config = Qwen3VLConfig(
        vision_config=VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]},
        text_config=TEXT | {"head_dim": 8, "rope_parameters": rope} | text,
        **TOKENS,
    )
    return toy_model(Qwen3VLForConditionalGeneration, config, attention)


def video_batch(texts: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    step = [START, *[VIDEO] * (FRAME[0] * FRAME[1] // 4), END]
    return qwen2_5_vl.videos(texts, step * STEPS, seed)


def mixed_batch() -> dict[str, torch.Tensor]:
    return qwen2_5_vl.joined(batch([5]), video_batch([20]))
