"""LLaVA-NeXT (transformers: LlavaNextForConditionalGeneration): a base tile, then tiles of higher resolution.

In a prompt an image is its base tile, then the stitched tiles row by row without their padding, with a newline
embedding after each row. Units of selection are the base tile and the patches of each tile that unpadding leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from vlmprune.engine.hooks import MethodPatch
from vlmprune.engine.layout import Layout, Unit, group_by_grid, join_tiles
from vlmprune.models.families import llava
from vlmprune.models.geometry import Anyres, Box, Pixels, View, best_filled_resolution, letterbox_box, tile_geometry
from vlmprune.models.preprocessing import Media, Preprocessor, pad_tiles


class Inputs(Preprocessor):
    """Preprocessor; packing=fastervlm uses FasterVLM's choice of resolution, and declares that the image fills it."""

    adapter: Any  # a LlavaNext
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 5}

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        own, model = self.processors.image_processor.image_grid_pinpoints, self.adapter.config.image_grid_pinpoints
        return {"image_grid_pinpoints": (sorted(map(list, own)), sorted(map(list, model)))}

    def image(self, image: Image.Image) -> Media:
        given = self.tensors([self.squared(image)], **self._choice(image))
        given = {name: given[name] for name in ("pixel_values", "image_sizes")}
        if self.adapter.options.packing == "fastervlm":
            given["image_sizes"] = torch.tensor([self._resolution(image)])
        height, width = given["image_sizes"][0].tolist()
        slots = self.adapter.slots(self.adapter.geometry((height, width)))
        return Media("image", given, self.processors.image_token * slots)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the base tile and the stitched tiles, whose padding has no tokens."""
        height, width = medium.tensors["image_sizes"][0].tolist()
        image = self.adapter.geometry((height, width))
        patches = image.slot_patches()
        patches = patches[patches >= 0] if self.adapter.options.packing == "fastervlm" else patches
        slots = torch.full((image.tiles * image.side**2,), -1)
        slots[patches[patches >= 0]] = (patches >= 0).nonzero().flatten()
        base, tiles = slots.split([image.side**2, len(slots) - image.side**2])
        stitched = tiles.view(image.rows, image.columns, image.side, image.side).transpose(1, 2)
        tile = self.adapter.config.vision_config.image_size
        canvas = (image.columns * tile, image.rows * tile)
        return [
            View(0, self.original_box(sizes[0], Box.whole), base.view(image.side, image.side), "whole picture"),
            View(
                0,
                self.original_box(sizes[0], lambda size: letterbox_box(size, canvas)),
                stitched.reshape(image.rows * image.side, image.columns * image.side),
                f"{image.rows} x {image.columns} tiles",
                (image.rows, image.columns),
            ),
        ]

    def collate(self, prompts: list[list[Media]]) -> dict[str, Tensor]:
        """Return pixel_values [images, tiles of the largest, 3, H, W], padded, and image_sizes [images, 2]."""
        return super().collate(pad_tiles(prompts))

    def _choice(self, image: Image.Image) -> dict[str, Any]:
        """Return image-processor settings that fix FasterVLM's resolution; {} if the processor chooses."""
        if self.adapter.options.packing != "fastervlm":
            return {}
        return {"image_grid_pinpoints": [list(self._resolution(image))]}

    def _resolution(self, image: Image.Image) -> tuple[int, int]:
        width, height = self.squared(image).size
        return best_filled_resolution((height, width), self.processors.image_processor.image_grid_pinpoints)


__all__ = ["SIGNALS", "Inputs", "LlavaNext", "Options", "adapt", "describe_tower"]

SIGNALS = (llava.SIGNALS - {"encoder_layers"}) | {"tiles"}
describe_tower = llava.describe_tower


@dataclass(frozen=True)
class Options:
    """Options of LLaVA-NeXT. newline: `drop` the newline embeddings if pruning drops patches, or `keep` them.

    packing: `checkpoint` is that of transformers; `fastervlm` that of FasterVLM's code, without unpadding and newlines
    (`Inputs` then gives every image the size of its resolution, so that there is nothing to unpad).
    """

    newline: Literal["drop", "keep"] = "drop"
    packing: Literal["checkpoint", "fastervlm"] = "checkpoint"


class LlavaNext(llava.Llava):
    """Adapter of tiled images."""

    signals = SIGNALS
    options = Options()
    pruning_options = frozenset({"newline"})

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._images: list[Anyres] = []

    @property
    def idle_options(self) -> dict[str, str]:
        whole_tiles = self.options.packing == "fastervlm"
        return {"newline": "model.packing=fastervlm has no newline tokens"} if whole_tiles else {}

    def geometry(self, image_size: tuple[int, int]) -> Anyres:
        """Return the geometry, after unpadding, of an image of `image_size` (height, width) pixels."""
        config = self.config
        return tile_geometry(
            image_size, config.image_grid_pinpoints, config.vision_config.image_size, self.tower.grid[0]
        )

    def slots(self, image: Anyres) -> int:
        """Return the number of placeholders of an image in a prompt."""
        return image.slots - (image.newlines if self.options.packing == "fastervlm" else 0)

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        images = [self.geometry((height, width)) for height, width in arguments["image_sizes"].tolist()]
        pixels = arguments["pixel_values"]
        tiles = [tile for image, geometry in zip(pixels, images, strict=True) for tile in image[: geometry.tiles]]
        n = self.tower.grid[0] * self.tower.grid[1]
        units: list[Unit] = []
        first = 0
        for image in images:
            alive = image.unpadded_patches()
            own = [Unit(patches + (first + tile) * n, grid, first + tile) for tile, (patches, grid) in enumerate(alive)]
            units += own if scope == "tile" else [join_tiles(own)]
            first += image.tiles
        newlines = sum(self.slots(image) - image.slots + image.newlines for image in images)
        return Layout(
            group_by_grid(units, pixels.device),
            tiles,
            slots=sum(map(self.slots, images)),
            tile_tokens=n,
            tile_rows=n,
            fixed_slots=newlines if self.options.newline == "keep" else 0,
            images=[index for index, image in enumerate(images) for _ in range(image.tiles)],
            order=self._order(images),
            stitched=True,
        )

    def _order(self, images: list[Anyres]) -> Tensor:
        """Return int64 [slots], the token at each slot of all images; -1 at a newline."""
        slots, first = [], 0
        for image in images:
            patches = image.slot_patches()
            patches = patches[patches >= 0] if self.options.packing == "fastervlm" else patches
            slots.append(torch.where(patches < 0, patches, patches + first * self.tower.grid[0] ** 2))
            first += image.tiles
        return torch.cat(slots)

    def prepare(self, prunes_before: bool) -> list[Any]:
        newline: Tensor | None = self.model.model.image_newline
        if self.options.packing == "fastervlm":
            newline = None
        elif prunes_before and self.options.newline == "drop":
            newline = torch.full_like(self.model.model.image_newline, torch.nan)

        def wrap(pack: Callable[..., Any]) -> Callable[..., Any]:
            def packed(features: Any, image_sizes: Tensor, *args: Any, **kwargs: Any) -> Any:
                self._images = [self.geometry((height, width)) for height, width in image_sizes.tolist()]
                return pack(features, image_sizes, *args, **kwargs | {"image_newline": newline})

            return packed

        return [MethodPatch(self.model.model, "pack_image_features", wrap)]

    def detail(self, visual: Tensor) -> Tensor:
        if not visual.any():
            return visual
        flags = torch.cat(
            [torch.arange(self.slots(image), device=visual.device) >= image.side**2 for image in self._images]
        )
        copies = int(visual.sum()) // max(1, len(flags))  # beam search and num_return_sequences repeat every prompt
        marked = torch.zeros_like(visual)
        marked[::copies] = marked[::copies].masked_scatter(visual[::copies], flags)
        return marked[::copies].repeat_interleave(copies, dim=0)


def adapt(model: Any) -> LlavaNext:
    """Return the adapter of a LlavaNextForConditionalGeneration."""
    return LlavaNext(model)
