"""Video-LLaVA (transformers: VideoLlavaForConditionalGeneration): one CLIP tower for images, one for videos.

A frame is ranked like an image. Of a video transformers passes each frame's [CLS] on, as published; where tokens are
pruned it is dropped, so that a ratio concerns patches alone (FasterVLM's branch `video`: 8 x 256 -> 8 x 13 at 95 %).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlmprune.methods.base import SequenceMethod
from vlmprune.models import llava
from vlmprune.pruning.layout import Group, Layout, whole_tiles

# No text_relevance: both towers are LanguageBind's, which have no text side in common with a CLIP checkpoint.
SIGNALS = llava.SIGNALS - {"text_relevance"}
describe_tower = llava.describe_tower


class VideoLlava(llava.Llava):
    """Images and videos share the projector and the decoder."""

    signals = SIGNALS

    @property
    def vision_towers(self) -> list[Any]:
        return [self.model.model.image_tower, self.model.model.video_tower]

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("get_image_features", "get_video_features")

    def layout(self, encoder: str, arguments: dict[str, Any], method: SequenceMethod) -> Layout:
        if encoder == "get_image_features":
            pixels = arguments.get("pixel_values")  # transformers 5.17 knows the other name only, 5.23 takes both
            return whole_tiles(arguments["pixel_values_images"] if pixels is None else pixels, self.tower.grid)
        videos = arguments["pixel_values_videos"]  # [videos, frames, 3, H, W]
        frames = videos.shape[1]
        layout = whole_tiles(videos.flatten(0, 1), self.tower.grid, extra_rows=1)
        owners = [video for video in range(len(videos)) for _ in range(frames)]
        if method.scope_rule == "tile":
            return replace(layout, images=owners)
        index = layout.groups[0].index.view(len(videos), -1)
        whole = Group(index, (1, index.shape[1]), list(range(0, len(owners), frames)))
        return replace(layout, groups=[whole], images=owners)

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        tokens = (self.config.image_token_id, self.config.video_token_id)
        return torch.isin(input_ids, torch.tensor(tokens, device=input_ids.device))


def adapt(model: Any) -> VideoLlava:
    """The adapter of a VideoLlavaForConditionalGeneration."""
    return VideoLlava(model)
