"""Preprocessing of LLaVA-NeXT: a base tile, then the tiles of the resolution that fits the image's shape best."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vlmprune.models.anyres import best_filled_resolution
from vlmprune.models.inputs import Media, Preprocessor, filled
from vlmprune.models.views import Box, Pixels, View, letterboxed


class Inputs(Preprocessor):
    """Preprocessor; packing=fastervlm uses FasterVLM's choice of resolution, and declares that the image fills it."""

    adapter: Any  # a LlavaNext
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 5}

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        own, model = self.parts.image_processor.image_grid_pinpoints, self.adapter.config.image_grid_pinpoints
        return {"image_grid_pinpoints": (sorted(map(list, own)), sorted(map(list, model)))}

    def image(self, image: Image.Image) -> Media:
        given = self.tensors([self.squared(image)], **self._choice(image))
        given = {name: given[name] for name in ("pixel_values", "image_sizes")}
        if self.config.packing == "fastervlm":
            given["image_sizes"] = torch.tensor([self._resolution(image)])
        height, width = given["image_sizes"][0].tolist()
        slots = self.adapter.slots(self.adapter.geometry((height, width)))
        return Media("image", given, self.parts.image_token * slots)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the base tile and the stitched tiles, whose padding has no tokens."""
        height, width = medium.tensors["image_sizes"][0].tolist()
        image = self.adapter.geometry((height, width))
        patches = image.slot_patches()
        patches = patches[patches >= 0] if self.config.packing == "fastervlm" else patches
        slots = torch.full((image.tiles * image.side**2,), -1)
        slots[patches[patches >= 0]] = (patches >= 0).nonzero().flatten()
        base, tiles = slots.split([image.side**2, len(slots) - image.side**2])
        stitched = tiles.view(image.rows, image.columns, image.side, image.side).transpose(1, 2)
        tile = self.adapter.config.vision_config.image_size
        canvas = (image.columns * tile, image.rows * tile)
        return [
            View(0, self.placed(sizes[0], Box.whole), base.view(image.side, image.side), "whole picture"),
            View(
                0,
                self.placed(sizes[0], lambda size: letterboxed(size, canvas)),
                stitched.reshape(image.rows * image.side, image.columns * image.side),
                f"{image.rows} x {image.columns} tiles",
                (image.rows, image.columns),
            ),
        ]

    def collate(self, prompts: list[list[Media]]) -> dict[str, Tensor]:
        """Return pixel_values [images, tiles of the largest, 3, H, W], padded, and image_sizes [images, 2]."""
        return super().collate(filled(prompts))

    def _choice(self, image: Image.Image) -> dict[str, Any]:
        """Return image-processor settings that fix FasterVLM's resolution; {} if the processor chooses."""
        if self.config.packing != "fastervlm":
            return {}
        return {"image_grid_pinpoints": [list(self._resolution(image))]}

    def _resolution(self, image: Image.Image) -> tuple[int, int]:
        width, height = self.squared(image).size
        return best_filled_resolution((height, width), self.parts.image_processor.image_grid_pinpoints)
