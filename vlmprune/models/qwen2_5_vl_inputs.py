"""Preprocessing of Qwen2.5-VL: pictures and videos become patches of one size, in varying number, and their grid.

A frame is preprocessed as a picture is, by the checkpoint's image processor; transformers' video processor does the
same with torchvision.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.base import Adapter
from vlmprune.models.inputs import Media, Parts, Preprocessor
from vlmprune.models.views import Box, Pixels, View, grid_of

LIMITS = ("min_pixels", "max_pixels", "video_min_pixels", "video_max_pixels")


class Inputs(Preprocessor):
    """Preprocessor that takes frames as two a second, Qwen's sampling rate, since their real times are not known.

    The model assumes the same without `second_per_grid_ts`: one second for a temporal step of two frames.
    """

    takes_video: ClassVar[bool] = True
    video_default: ClassVar[dict[str, int] | None] = None  # limits if the checkpoint has none; None: those of a picture
    video_unit: ClassVar[str] = "frame"  # to which the limits of a video apply

    def __init__(self, parts: Parts, adapter: Adapter, config: ModelConfig) -> None:
        super().__init__(parts, adapter, config)
        processor = parts.image_processor
        self.side = processor.patch_size * processor.merge_size  # pixels of a token in each direction
        self._own = self._resolve({})
        self._limits = self._resolve({name: getattr(config, name) for name in LIMITS})
        self._check(config)

    @property
    def limits(self) -> dict[str, int]:
        return self._limits

    @property
    def own_limits(self) -> dict[str, int]:
        return self._own

    def limits_text(self, kind: Literal["image", "video"]) -> str:
        video = "video_" if kind == "video" else ""
        least, most = self._limits[f"{video}min_pixels"], self._limits[f"{video}max_pixels"]
        # A token of a video covers all frames of a temporal step.
        cell = self.side**2 * (self.parts.image_processor.temporal_patch_size if video else 1)
        unit = self.video_unit if video else "picture"
        return f"{least:,} to {most:,} pixels a {unit} (at most {most // cell:,} visual tokens)"

    def _resolve(self, given: dict[str, int | None]) -> dict[str, int]:
        """Return the checkpoint's limits, replaced by those in `given`. Raises UserError if it has none."""
        size = self.parts.image_processor.size
        try:
            image = _overlaid((size["shortest_edge"], size["longest_edge"]), given, "")
            own = self.parts.video_size or self.video_default
            frames = image if own is None else (own["shortest_edge"], own["longest_edge"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"model.path={self.config.path}: size={size} of its image processor, {self.parts.video_size} of its "
                "video processor; allowed: shortest_edge and longest_edge, in pixels"
            ) from error
        return dict(zip(LIMITS, (*image, *_overlaid(frames, given, "video_")), strict=True))

    def _check(self, config: ModelConfig) -> None:
        """Raise UserError if the run's limits allow no picture."""
        cell = self.side**2
        for name in LIMITS:
            value = getattr(config, name)
            if value is not None and value < cell:
                raise UserError(
                    f"model.{name}={value}: less than one visual token, {self.side} x {self.side} pixels; allowed: "
                    f"{cell} or more"
                )
        for prefix in ("", "video_"):
            low, high = f"{prefix}min_pixels", f"{prefix}max_pixels"
            if self._limits[low] > self._limits[high]:
                both = (
                    f"{n}={self._limits[n]}{'' if getattr(config, n) else ' (the checkpoint)'}" for n in (low, high)
                )
                raise UserError(f"model.{' and model.'.join(both)}: allowed: {low} up to {high}; give both")

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        processor, vision = self.parts.image_processor, self.adapter.config.vision_config
        return {
            "patch_size": (processor.patch_size, vision.patch_size),
            "merge_size": (processor.merge_size, vision.spatial_merge_size),
            "temporal_patch_size": (processor.temporal_patch_size, vision.temporal_patch_size),
        }

    def pixel_shapes(self) -> dict[str, tuple[int | None, ...]]:
        vision = self.adapter.config.vision_config
        patch = (None, vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)
        return {"pixel_values": patch, "pixel_values_videos": patch}

    def image(self, image: Image.Image) -> Media:
        size = _size(self._limits["min_pixels"], self._limits["max_pixels"])
        given = self.tensors([self.squared(image)], size=size)
        grid = given["image_grid_thw"]
        tensors = {"pixel_values": given["pixel_values"], "image_grid_thw": grid}
        return Media("image", tensors, self.parts.image_token * self.tokens(grid))

    def video(self, frames: list[Image.Image]) -> Media:
        step = self.parts.image_processor.temporal_patch_size
        shown = len(frames)
        frames = frames + [frames[-1]] * (-len(frames) % step)
        given = self.tensors(frames, size=self.video_size(len(frames)))
        _, height, width = given["image_grid_thw"][0].tolist()
        # The processor repeats a picture for each frame of a temporal step: [frames, patches, channels, step, pixels].
        single = given["pixel_values"].view(len(frames), height * width, 3, step, -1)[:, :, :, 0]
        joined = single.unflatten(0, (-1, step)).permute(0, 2, 3, 1, 4)  # [steps, patches, channels, step, pixels]
        grid = torch.tensor([[len(joined), height, width]])
        tensors = {"pixel_values_videos": joined.flatten(0, 1).flatten(1), "video_grid_thw": grid}
        return Media("video", tensors, self.video_text(grid, shown))

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the picture, or the first frame of every temporal step, stretched to a whole number of tokens."""
        merge = self.parts.image_processor.merge_size
        steps, rows, columns = medium.tensors[f"{medium.kind}_grid_thw"][0].tolist()
        grid = rows // merge, columns // merge
        if medium.kind == "image":
            return [View(0, self.placed(sizes[0], Box.whole), grid_of(*grid))]
        step = self.parts.image_processor.temporal_patch_size
        return [
            View(
                index * step,
                Box.whole(sizes[index * step]),
                grid_of(*grid, index * grid[0] * grid[1]),
                f"frames {index * step + 1} to {min((index + 1) * step, len(sizes))}",
            )
            for index in range(steps)
        ]

    def video_size(self, frames: int) -> dict[str, int]:
        """Return the image processor's `size` for each frame of a video of so many frames."""
        return _size(self._limits["video_min_pixels"], self._limits["video_max_pixels"])

    def video_text(self, grid: Tensor, frames: int) -> str:
        """Return the prompt's text for a video of `grid` [1, 3] and so many frames."""
        return str(self.parts.video_token) * self.tokens(grid)

    def tokens(self, grid: Tensor) -> int:
        """Return the number of visual tokens of a grid [1, 3] of patches."""
        return int(grid.prod()) // self.parts.image_processor.merge_size**2

    def extras(self, input_ids: Tensor) -> dict[str, Tensor]:
        config = self.adapter.config
        image, video = input_ids == config.image_token_id, input_ids == config.video_token_id
        return {"mm_token_type_ids": image.long() + 2 * video.long()}


def _overlaid(own: tuple[int, int], given: dict[str, int | None], prefix: str) -> tuple[int, int]:
    """Return the least and most pixels: the checkpoint's `own`, replaced by those in `given`."""
    least, most = given.get(f"{prefix}min_pixels"), given.get(f"{prefix}max_pixels")
    return own[0] if least is None else least, own[1] if most is None else most


def _size(least: int, most: int) -> dict[str, int]:
    """Return limits of pixels under the names of Qwen's image processors."""
    return {"shortest_edge": least, "longest_edge": most}
