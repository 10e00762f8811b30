"""Qwen3-VL (Qwen3VLForConditionalGeneration): as Qwen2.5-VL, without windows, and with DeepStack.

Features of earlier vision layers are added to visual tokens inside the decoder; engine/deepstack.py drops them with
their tokens. In a prompt the placeholders of each temporal step of a video follow its timestamp.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vlmprune.errors import UserError
from vlmprune.methods.base import Tower
from vlmprune.models.base import EncoderSizes
from vlmprune.models.families import qwen2_5_vl

SIGNALS = qwen2_5_vl.SIGNALS
KEEPS_POSITIONS = qwen2_5_vl.KEEPS_POSITIONS
RANKS_TOGETHER = qwen2_5_vl.RANKS_TOGETHER
Options = qwen2_5_vl.Options
VIDEO_SIZE = {"shortest_edge": 4096, "longest_edge": 25165824}  # pixels of all frames, as the published checkpoints say
check_method = qwen2_5_vl.check_method


class Qwen3VL(qwen2_5_vl.Qwen2_5VL):
    """Adapter with the units, signals and positions of Qwen2.5-VL."""

    def encoder_order(self, grid: tuple[int, int]) -> Tensor:
        return torch.arange(grid[0] * grid[1])

    @property
    def encoder_sizes(self) -> EncoderSizes:
        vision = self.config.vision_config
        c, token = vision.hidden_size, vision.hidden_size * vision.spatial_merge_size**2
        merger = token**2 + token * vision.out_hidden_size
        return EncoderSizes(
            width=c,
            heads=vision.num_heads,
            cls=0,
            patch_macs=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * c,
            layer_macs=4 * c**2 + 2 * c * vision.intermediate_size,
            projector_macs=merger,
            merger_macs=merger * len(vision.deepstack_visual_indexes),
            feature_width=vision.out_hidden_size,
        )


class Inputs(qwen2_5_vl.Inputs):
    """Preprocessor: the limits of a video apply to all its frames together, and its text has timestamps."""

    video_default = VIDEO_SIZE
    video_unit = "video, all frames together"

    def video_size(self, frames: int) -> dict[str, int]:
        least, most = self.limits["video_min_pixels"], self.limits["video_max_pixels"]
        return {"shortest_edge": math.ceil(least / frames), "longest_edge": most // frames}

    def video_text(self, grid: Tensor, frames: int) -> str:
        config = self.adapter.config
        tokens = (config.vision_start_token_id, config.vision_end_token_id)
        start, end = self.tokenizer.convert_ids_to_tokens(tokens)
        steps = int(grid[0, 0])
        step = start + str(self.processors.video_token) * (self.tokens(grid) // steps) + end
        # A step's time is the mean of its frames', each half a second after the one before.
        times = [(index * 2 + min(index * 2 + 1, frames - 1)) / 4 for index in range(steps)]
        return "".join(f"<{time:.1f} seconds>{step}" for time in times)


def describe_tower(config: Any) -> Tower:
    """Return Qwen2.5-VL's facts of the encoder. Raises UserError if DeepStack has too many levels for the decoder."""
    levels, depth = len(config.vision_config.deepstack_visual_indexes), config.text_config.num_hidden_layers
    if levels >= depth:
        raise UserError(f"deepstack_visual_indexes: {levels} levels need a decoder of more than {depth} layers")
    return qwen2_5_vl.describe_tower(config)


def adapt(model: Any) -> Qwen3VL:
    """Return the adapter of a Qwen3VLForConditionalGeneration."""
    return Qwen3VL(model)
