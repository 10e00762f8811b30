"""Preprocessing of LLaVA-OneVision: a single image is cut into tiles, one of several images is not, nor is a frame."""

from __future__ import annotations

from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from vlmprune.models.anyres import anyres
from vlmprune.models.inputs import Media, Preprocessor, filled
from vlmprune.models.views import Box, Pixels, View, grid_of, letterboxed, squared


class Inputs(Preprocessor):
    """Placeholders are counted by the adapter, which asks the model's own packing functions."""

    takes_video = True
    adapter: Any  # a LlavaOnevision

    def image(self, image: Image.Image) -> Media:
        """A prompt's only image."""
        given = self._processed([[self.squared(image)]])
        sizes, tiles = self.adapter.tiles(given["image_sizes"])
        rows, columns = self.adapter.tower.grid
        (slots,) = self.adapter.packed(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        return Media("image", given, self.parts.image_token * len(slots))

    def media(self, pictures: list[Image.Image], kind: Literal["image", "video"]) -> list[Media]:
        if kind == "video" or len(pictures) == 1:
            return super().media(pictures, kind)
        given = self._processed([[self.squared(picture) for picture in pictures]])
        rows, columns = self.adapter.tower.grid
        text = self.parts.image_token * (rows * columns + 1)  # and a newline
        each = zip(given["pixel_values"].split(1), given["image_sizes"].split(1), strict=True)
        media = [Media("image", {"pixel_values": pixels, "image_sizes": size}, text) for pixels, size in each]
        media[0].tensors["batch_num_images"] = given["batch_num_images"]  # one number for the prompt
        return media

    def video(self, frames: list[Image.Image]) -> Media:
        processor = self.parts.image_processor
        # Squeezed to the tile like a base tile, not padded to a square like one of several images.
        size = (processor.size["width"], processor.size["height"])
        squares = [frame.resize(size, Image.Resampling(processor.resample)) for frame in frames]
        pixels = self._processed([squares])["pixel_values"][:, 0]
        rows, columns = self.adapter.tower.grid
        slots = len(frames) * ((rows + 1) // 2) * ((columns + 1) // 2) + 1  # and a newline
        assert self.parts.video_token is not None
        return Media("video", {"pixel_values_videos": pixels[None]}, self.parts.video_token * slots)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """A base tile and the stitched, unpadded and perhaps shrunk grid; one padded square of several; frames."""
        rows, columns = self.adapter.tower.grid
        if medium.kind == "video":
            pooled = (rows + 1) // 2, (columns + 1) // 2
            grids = [grid_of(*pooled, index * pooled[0] * pooled[1]) for index in range(len(sizes))]
            return [
                View(index, Box.whole(size), grid, f"frame {index + 1}")
                for index, (size, grid) in enumerate(zip(sizes, grids, strict=True))
            ]
        if self.slots(medium) == rows * columns + 1:  # one of several: its only tile, and a newline
            square, (left, top) = squared(sizes[0], pads=True)
            return [View(0, Box.whole(square).shifted(-left, -top), grid_of(rows, columns))]
        whole = View(0, self.placed(sizes[0], Box.whole), grid_of(rows, columns), "whole picture")
        return [whole, self._stitched(medium, sizes[0])]

    def _stitched(self, medium: Media, size: Pixels) -> View:
        """What the tiles of a single image are packed into; the model's own packing says where newlines stand."""
        vision, image_sizes = self.adapter.config.vision_config, medium.tensors["image_sizes"]
        height, width = image_sizes[0].tolist()
        rows, columns = self.adapter.tower.grid
        image = anyres((height, width), self.adapter.config.image_grid_pinpoints, vision.image_size, rows)
        sizes, tiles = self.adapter.tiles(image_sizes)
        (packed,) = self.adapter.packed(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        slots = packed.flatten().round().nonzero().flatten()[rows * columns :]
        lines = len(packed) - rows * columns - len(slots)
        canvas = (image.columns * vision.image_size, image.rows * vision.image_size)
        top, bottom, left, right = image.rectangle
        down, across = image.rows * rows, image.columns * columns
        box = self.placed(size, lambda given: letterboxed(given, canvas))
        return View(
            0,
            box.part((top / down, bottom / down), (left / across, right / across)),
            slots.view(lines, -1),
            f"{image.rows} x {image.columns} tiles, stitched",
        )

    def _processed(self, prompts: list[list[Image.Image]]) -> dict[str, Tensor]:
        """pixel_values [images, tiles, 3, H, W], image_sizes [images, 2], batch_num_images [prompts]."""
        return dict(self.parts.image_processor(images=prompts, return_tensors="pt"))

    def collate(self, media: list[Media]) -> dict[str, Tensor]:
        """Images are filled up to the tiles of the largest, as the model expects."""
        most = max((each.tensors["pixel_values"].shape[1] for each in media if each.kind == "image"), default=0)
        return super().collate([filled(each, most) if each.kind == "image" else each for each in media])
