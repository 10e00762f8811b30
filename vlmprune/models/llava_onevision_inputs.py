"""Preprocessing of LLaVA-OneVision: a prompt's only image is cut into tiles; several images and frames are not."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from vlmprune.models.anyres import anyres
from vlmprune.models.inputs import Media, Preprocessor, filled
from vlmprune.models.views import Box, Pixels, View, grid_of, letterboxed, squared


class Inputs(Preprocessor):
    """Preprocessor; the adapter counts placeholders with the model's packing functions."""

    takes_video = True
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 5, "pixel_values_videos": 5}
    adapter: Any  # a LlavaOnevision

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        own, model = self.parts.image_processor.image_grid_pinpoints, self.adapter.config.image_grid_pinpoints
        return {"image_grid_pinpoints": (sorted(map(list, own)), sorted(map(list, model)))}

    def image(self, image: Image.Image) -> Media:
        """Preprocess a prompt's only image."""
        given = self._processed([self.squared(image)])
        sizes, tiles = self.adapter.tiles(given["image_sizes"])
        rows, columns = self.adapter.tower.grid
        (slots,) = self.adapter.packed(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        return Media("image", given, self.parts.image_token * len(slots))

    def media(self, pictures: list[Image.Image], kind: Literal["image", "video"]) -> list[Media]:
        if kind == "video" or len(pictures) < 2:
            return super().media(pictures, kind)
        given = self._processed([self.squared(picture) for picture in pictures])
        rows, columns = self.adapter.tower.grid
        text = self.parts.image_token * (rows * columns + 1)  # and a newline
        each = zip(given["pixel_values"].split(1), given["image_sizes"].split(1), strict=True)
        return [Media("image", {"pixel_values": pixels, "image_sizes": size}, text) for pixels, size in each]

    def video(self, frames: list[Image.Image]) -> Media:
        processor = self.parts.image_processor
        # Resized to the tile like a base tile, without the padding to a square of one of several images.
        size = (processor.size["width"], processor.size["height"])
        squares = [frame.resize(size, Image.Resampling(processor.resample)) for frame in frames]
        pixels = self._processed(squares)["pixel_values"][:, 0]
        rows, columns = self.adapter.tower.grid
        slots = len(frames) * ((rows + 1) // 2) * ((columns + 1) // 2) + 1  # and a newline
        assert self.parts.video_token is not None
        return Media("video", {"pixel_values_videos": pixels[None]}, self.parts.video_token * slots)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the base tile and the stitched grid of an only image, one of several images as a square, or frames."""
        rows, columns = self.adapter.tower.grid
        if medium.kind == "video":
            pooled = (rows + 1) // 2, (columns + 1) // 2
            grids = [grid_of(*pooled, index * pooled[0] * pooled[1]) for index in range(len(sizes))]
            return [
                View(index, Box.whole(size), grid, f"frame {index + 1}")
                for index, (size, grid) in enumerate(zip(sizes, grids, strict=True))
            ]
        if self.slots(medium) == rows * columns + 1:  # one of several images: one tile, and a newline
            square, (left, top) = squared(sizes[0], pads=True)
            return [View(0, Box.whole(square).shifted(-left, -top), grid_of(rows, columns))]
        whole = View(0, self.placed(sizes[0], Box.whole), grid_of(rows, columns), "whole picture")
        return [whole, *self._stitched(medium, sizes[0])]

    def _stitched(self, medium: Media, size: Pixels) -> list[View]:
        """Return the view of a single image's stitched tiles, with newlines as in the model's packing.

        [] if the image is so thin that unpadding leaves no patch of its tiles.
        """
        vision, image_sizes = self.adapter.config.vision_config, medium.tensors["image_sizes"]
        height, width = image_sizes[0].tolist()
        rows, columns = self.adapter.tower.grid
        image = anyres((height, width), self.adapter.config.image_grid_pinpoints, vision.image_size, rows)
        sizes, tiles = self.adapter.tiles(image_sizes)
        (packed,) = self.adapter.packed(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        slots = packed.flatten().round().nonzero().flatten()[rows * columns :]
        if not len(slots):
            return []
        lines = len(packed) - rows * columns - len(slots)
        canvas = (image.columns * vision.image_size, image.rows * vision.image_size)
        top, bottom, left, right = image.rectangle
        down, across = image.rows * rows, image.columns * columns
        box = self.placed(size, lambda given: letterboxed(given, canvas))
        part = box.part((top / down, bottom / down), (left / across, right / across))
        return [View(0, part, slots.view(lines, -1), f"{image.rows} x {image.columns} tiles, stitched")]

    def _processed(self, images: list[Image.Image]) -> dict[str, Tensor]:
        """Preprocess all images of one prompt: pixel_values [images, tiles, 3, H, W], image_sizes [images, 2]."""
        given = self.tensors(images, nested=True)
        return {name: given[name] for name in ("pixel_values", "image_sizes")}

    def collate(self, prompts: list[list[Media]]) -> dict[str, Tensor]:
        """Return the tensors with images padded to the tiles of the largest, and batch_num_images.

        The latter is the number of images of each prompt that has any: 1 tells the model that the image is tiled.
        """
        tensors = super().collate(filled(prompts))
        numbers = [sum(medium.kind == "image" for medium in own) for own in prompts]
        if any(numbers):
            tensors["batch_num_images"] = torch.tensor([number for number in numbers if number])
        return tensors
