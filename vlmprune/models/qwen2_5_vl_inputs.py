"""Pictures and videos as Qwen2.5-VL takes them: patches of one size, however many, and the grid that they fill.

A frame is preprocessed as a picture is, by the checkpoint's own image processor; transformers' video processor does the
same with torchvision.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vlmprune.models.inputs import Media, Preprocessor
from vlmprune.models.views import Box, Pixels, View, grid_of


class Inputs(Preprocessor):
    """Frames are taken as two a second, the rate at which Qwen samples videos: their real times are not known here.

    That is also what the model assumes without `second_per_grid_ts`: one second for a temporal step of two frames.
    """

    takes_video: ClassVar[bool] = True

    def image(self, image: Image.Image) -> Media:
        given = self.parts.image_processor(images=self.squared(image), return_tensors="pt")
        grid = given["image_grid_thw"]
        tensors = {"pixel_values": given["pixel_values"], "image_grid_thw": grid}
        return Media("image", tensors, self.parts.image_token * self.tokens(grid))

    def video(self, frames: list[Image.Image]) -> Media:
        step = self.parts.image_processor.temporal_patch_size
        shown = len(frames)
        frames = frames + [frames[-1]] * (-len(frames) % step)
        given = self.parts.image_processor(images=frames, return_tensors="pt", **self.video_settings(len(frames)))
        _, height, width = given["image_grid_thw"][0].tolist()
        # The processor repeats a picture for each frame of a temporal step: [frames, patches, channels, step, pixels].
        single = given["pixel_values"].view(len(frames), height * width, 3, step, -1)[:, :, :, 0]
        joined = single.unflatten(0, (-1, step)).permute(0, 2, 3, 1, 4)  # [steps, patches, channels, step, pixels]
        grid = torch.tensor([[len(joined), height, width]])
        tensors = {"pixel_values_videos": joined.flatten(0, 1).flatten(1), "video_grid_thw": grid}
        return Media("video", tensors, self.video_text(grid, shown))

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """The picture, or the first frame of every temporal step, stretched to a whole number of tokens."""
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

    def video_settings(self, frames: int) -> dict[str, Any]:
        """Arguments of the image processor for a video of so many frames."""
        return {} if self.parts.video_size is None else {"size": self.parts.video_size}

    def video_text(self, grid: Tensor, frames: int) -> str:
        """What stands for a video of `grid` [1, 3] and so many frames in the prompt."""
        return str(self.parts.video_token) * self.tokens(grid)

    def tokens(self, grid: Tensor) -> int:
        """Visual tokens of a grid [1, 3] of patches."""
        return int(grid.prod()) // self.parts.image_processor.merge_size**2

    def extras(self, input_ids: Tensor) -> dict[str, Tensor]:
        config = self.adapter.config
        image, video = input_ids == config.image_token_id, input_ids == config.video_token_id
        return {"mm_token_type_ids": image.long() + 2 * video.long()}
