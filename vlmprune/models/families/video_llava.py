"""Video-LLaVA (transformers: VideoLlavaForConditionalGeneration): one CLIP encoder for images, one for videos.

A frame is ranked like an image. transformers puts each frame's [CLS] into the prompt, as published; if tokens are
pruned it is dropped, so that a ratio concerns patches alone (FasterVLM's branch `video`: 8 x 256 -> 8 x 13 at 95 %).
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vlmprune.engine.layout import Group, Layout, tile_layout
from vlmprune.models.families import llava
from vlmprune.models.geometry import Pixels, View, check_crop, crop_box, grid_of
from vlmprune.models.preprocessing import Media, Preprocessor

# No text_relevance: both encoders are LanguageBind's, for which no CLIP checkpoint has a text tower.
SIGNALS = llava.SIGNALS - {"text_relevance"}
RANKS_TOGETHER = frozenset({"video"})
describe_tower = llava.describe_tower


class VideoLlava(llava.Llava):
    """Adapter in which images and videos share the projector and the decoder, but not the encoder."""

    signals = SIGNALS

    @property
    def vision_towers(self) -> list[Any]:
        return [self.model.model.image_tower, self.model.model.video_tower]

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("get_image_features", "get_video_features")

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        if encoder == "get_image_features":
            pixels = arguments.get("pixel_values")  # transformers 5.17 takes the other name only, 5.23 both
            return tile_layout(arguments["pixel_values_images"] if pixels is None else pixels, self.tower.grid)
        videos = arguments["pixel_values_videos"]  # [videos, frames, 3, H, W]
        frames = videos.shape[1]
        layout = tile_layout(videos.flatten(0, 1), self.tower.grid, extra_rows=1)
        owners = [video for video in range(len(videos)) for _ in range(frames)]
        if scope == "tile":
            return replace(layout, images=owners)
        index = layout.groups[0].index.view(len(videos), -1)
        whole = Group(index, (1, index.shape[1]), list(range(0, len(owners), frames)))
        return replace(layout, groups=[whole], images=owners)

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        tokens = (self.config.image_token_id, self.config.video_token_id)
        return torch.isin(input_ids, torch.tensor(tokens, device=input_ids.device))


class Inputs(Preprocessor):
    """Preprocessor: images and frames are resized and cropped alike; only images are padded first with `image=pad`."""

    takes_video = True
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 4, "pixel_values_images": 4, "pixel_values_videos": 5}

    def image(self, image: Image.Image) -> Media:
        # transformers 5.17 has another name for pixel_values.
        known = inspect.signature(self.adapter.base_model.get_image_features).parameters
        name = "pixel_values" if "pixel_values" in known else "pixel_values_images"
        return Media("image", {name: self._pixels([self.squared(image)])}, self.processors.image_token * self._patches)

    def video(self, frames: list[Image.Image]) -> Media:
        slots = len(frames) * (self._patches + 1)  # each frame with its [CLS]
        assert self.processors.video_token is not None
        return Media("video", {"pixel_values_videos": self._pixels(frames)[None]}, self.processors.video_token * slots)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        grid, processor = self.adapter.tower.grid, self.processors.image_processor
        if medium.kind == "image":
            return [View(0, self.original_box(sizes[0], lambda size: crop_box(size, processor)), grid_of(*grid))]
        return [  # each frame after its [CLS]
            View(
                index, crop_box(size, processor), grid_of(*grid, 1 + index * (self._patches + 1)), f"frame {index + 1}"
            )
            for index, size in enumerate(sizes)
        ]

    @property
    def _patches(self) -> int:
        rows, columns = self.adapter.tower.grid
        return rows * columns

    def _pixels(self, pictures: list[Image.Image]) -> Tensor:
        """Return float32 [pictures, 3, H, W]."""
        processor = self.processors.image_processor
        for picture in pictures:
            check_crop(picture, processor)
        name = "return_legacy_image_output"  # transformers 5.23 warns if it is not given; 5.17 does not have it
        settings = {name: False} if name in inspect.signature(processor.preprocess).parameters else {}
        (pixels,) = self.tensors(pictures, **settings).values()
        return pixels


def adapt(model: Any) -> VideoLlava:
    """Return the adapter of a VideoLlavaForConditionalGeneration."""
    return VideoLlava(model)
