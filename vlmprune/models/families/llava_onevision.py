"""LLaVA-OneVision (transformers: LlavaOnevisionForConditionalGeneration): SigLIP tower, tiled images, pooled frames.

In a prompt a single image is its base tile, then its tiles stitched, unpadded and, above a limit, shrunk bilinearly,
with a newline embedding after each row; one of several images is its base tile and one newline. A video is its frames,
pooled bilinearly to half the side, and one newline. The units of selection are the base tile, the stitched grid (one
unit, since shrinking mixes patches of neighbouring tiles), and each pooled frame. Shrinking and pooling come after the
projector, so tokens are dropped after them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers.models.llava_onevision.modeling_llava_onevision import image_size_to_num_patches

from vlmprune.engine.layout import Layout, Unit, group_by_grid, join_tiles
from vlmprune.errors import UserError
from vlmprune.methods.base import Tower
from vlmprune.models.base import Adapter, EncoderSizes, UncountableFlops
from vlmprune.models.families import llava
from vlmprune.models.geometry import Box, Pixels, View, grid_of, letterbox_box, squared, tile_geometry
from vlmprune.models.preprocessing import Media, Preprocessor, pad_tiles


class Inputs(Preprocessor):
    """Preprocessor; the adapter counts placeholders with the model's packing functions."""

    takes_video = True
    dimensions: ClassVar[dict[str, int]] = {"pixel_values": 5, "pixel_values_videos": 5}
    adapter: Any  # a LlavaOnevision

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        own, model = self.processors.image_processor.image_grid_pinpoints, self.adapter.config.image_grid_pinpoints
        return {"image_grid_pinpoints": (sorted(map(list, own)), sorted(map(list, model)))}

    def image(self, image: Image.Image) -> Media:
        """Preprocess a prompt's only image."""
        given = self._processed([self.squared(image)])
        sizes, tiles = self.adapter.tiles(given["image_sizes"])
        rows, columns = self.adapter.tower.grid
        (slots,) = self.adapter.pack(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        return Media("image", given, self.processors.image_token * len(slots))

    def media(self, pictures: list[Image.Image], kind: Literal["image", "video"]) -> list[Media]:
        if kind == "video" or len(pictures) < 2:
            return super().media(pictures, kind)
        given = self._processed([self.squared(picture) for picture in pictures])
        rows, columns = self.adapter.tower.grid
        text = self.processors.image_token * (rows * columns + 1)  # and a newline
        each = zip(given["pixel_values"].split(1), given["image_sizes"].split(1), strict=True)
        return [Media("image", {"pixel_values": pixels, "image_sizes": size}, text) for pixels, size in each]

    def video(self, frames: list[Image.Image]) -> Media:
        processor = self.processors.image_processor
        # Resized to the tile like a base tile, without the padding to a square of one of several images.
        size = (processor.size["width"], processor.size["height"])
        squares = [frame.resize(size, Image.Resampling(processor.resample)) for frame in frames]
        pixels = self._processed(squares)["pixel_values"][:, 0]
        rows, columns = self.adapter.tower.grid
        slots = len(frames) * ((rows + 1) // 2) * ((columns + 1) // 2) + 1  # and a newline
        assert self.processors.video_token is not None
        return Media("video", {"pixel_values_videos": pixels[None]}, self.processors.video_token * slots)

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
        whole = View(0, self.original_box(sizes[0], Box.whole), grid_of(rows, columns), "whole picture")
        return [whole, *self._stitched(medium, sizes[0])]

    def _stitched(self, medium: Media, size: Pixels) -> list[View]:
        """Return the view of a single image's stitched tiles, with newlines as in the model's packing.

        [] if the image is so thin that unpadding leaves no patch of its tiles.
        """
        vision, image_sizes = self.adapter.config.vision_config, medium.tensors["image_sizes"]
        height, width = image_sizes[0].tolist()
        rows, columns = self.adapter.tower.grid
        image = tile_geometry((height, width), self.adapter.config.image_grid_pinpoints, vision.image_size, rows)
        sizes, tiles = self.adapter.tiles(image_sizes)
        (packed,) = self.adapter.pack(torch.ones(tiles[0], rows * columns, 1), sizes, tiles)
        slots = packed.flatten().round().nonzero().flatten()[rows * columns :]
        if not len(slots):
            return []
        lines = len(packed) - rows * columns - len(slots)
        canvas = (image.columns * vision.image_size, image.rows * vision.image_size)
        top, bottom, left, right = image.rectangle
        down, across = image.rows * rows, image.columns * columns
        box = self.original_box(size, lambda given: letterbox_box(given, canvas))
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
        tensors = super().collate(pad_tiles(prompts))
        numbers = [sum(medium.kind == "image" for medium in own) for own in prompts]
        if any(numbers):
            tensors["batch_num_images"] = torch.tensor([number for number in numbers if number])
        return tensors


__all__ = ["SIGNALS", "Inputs", "LlavaOnevision", "Options", "adapt", "describe_tower"]

# SigLIP has no [CLS]: cls_attention is the mean attention that a patch receives. encoder_layers is absent because
# stitching and pooling after the encoder need the full grid.
SIGNALS = frozenset({"seeds", "cls_attention", "received_attention", "features", "projected", "decoder_attention"})


@dataclass(frozen=True)
class Options:
    """Options of LLaVA-OneVision. newline: `drop` newlines if tokens are dropped, or `keep` them."""

    newline: Literal["drop", "keep"] = "drop"


class LlavaOnevision(llava.Llava):
    """Adapter of tiled images and pooled frames."""

    signals = SIGNALS
    options = Options()
    pruning_options = frozenset({"newline"})

    def __init__(self, model: Any) -> None:
        Adapter.__init__(self, model)  # Llava's would describe a CLIP encoder
        self.tower = describe_tower(model.config)
        # The model's packing of patches [tiles, P, C] of the last encoding into rows [R, C], 0 for newlines.
        self._arrange: Callable[[Tensor], Tensor]

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("get_image_features", "get_video_features")

    @property
    def projects_each_token(self) -> bool:
        return False

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        if encoder == "get_image_features":
            return self._images(arguments, scope)
        return self._videos(arguments, scope)

    def _images(self, arguments: dict[str, Any], scope: str) -> Layout:
        sizes, tiles = self.tiles(arguments["image_sizes"], arguments.get("batch_num_images"))
        stacked = arguments["pixel_values"]
        if stacked.dim() == 5:  # [images, tiles of the largest, 3, H, W]
            pixels = [tile for image, count in zip(stacked, tiles, strict=True) for tile in image[:count]]
        else:
            pixels = list(stacked)
        aspect = arguments.get("vision_aspect_ratio")
        self._arrange = lambda maps: torch.cat(self.pack(maps, sizes, tiles, aspect))
        n = self.tower.grid[0] * self.tower.grid[1]
        units: list[Unit] = []
        row = tile = newlines = 0
        for image, count in zip(self.pack(torch.ones(len(pixels), n, 1), sizes, tiles, aspect), tiles, strict=True):
            tokens = row + image.flatten().round().nonzero().flatten()
            lines = len(image) - len(tokens)
            own = [Unit(tokens[:n], self.tower.grid, tile)]
            if len(tokens) > n:
                own.append(Unit(tokens[n:], (lines, (len(tokens) - n) // lines), tile + 1))
            units += own if scope == "tile" else [join_tiles(own)]
            row, tile, newlines = row + len(image), tile + count, newlines + lines
        owners = [image for image, count in enumerate(tiles) for _ in range(count)]
        return self._laid_out(units, pixels, row, newlines, owners)

    def pack(self, maps: Tensor, sizes: list[list[int]], tiles: list[int], aspect: str | None = None) -> list[Tensor]:
        """Return maps of patches [tiles, P, C] as the model packs them, [slots, C] per image, with 0 for newlines."""
        newline = maps.new_zeros(maps.shape[-1])
        aspect = aspect or self.config.vision_aspect_ratio
        return self.base_model.pack_image_features(maps.split(tiles), sizes, newline, aspect)[0]

    def tiles(self, image_sizes: Any, images_per_prompt: Any = None) -> tuple[list[list[int]], list[int]]:
        """Return the size (height, width) and the number of tiles of each image; 1 for one of several of a prompt."""
        sizes = torch.as_tensor(image_sizes).tolist()
        numbers = [1] * len(sizes) if images_per_prompt is None else torch.as_tensor(images_per_prompt).tolist()
        cut = [number == 1 for number in numbers for _ in range(number)]
        pinpoints, side = self.config.image_grid_pinpoints, self.config.vision_config.image_size
        return sizes, [
            image_size_to_num_patches(size, pinpoints, side) if many else 1
            for size, many in zip(sizes, cut, strict=True)
        ]

    def _videos(self, arguments: dict[str, Any], scope: str) -> Layout:
        # transformers 5.17 has another name for a video's pixels, and adds the newline later, in forward().
        closes = "pixel_values_videos" in arguments
        pixels = arguments["pixel_values_videos" if closes else "pixel_values"]  # [videos, frames, 3, H, W]
        videos, frames = pixels.shape[:2]
        grid = ((self.tower.grid[0] + 1) // 2, (self.tower.grid[1] + 1) // 2)
        n = grid[0] * grid[1]

        def arrange(maps: Tensor) -> Tensor:
            pooled = self.base_model.apply_pooling(maps).reshape(videos, frames * n, -1)
            return torch.nn.functional.pad(pooled, (0, 0, 0, int(closes))).flatten(0, 1)

        self._arrange = arrange
        units: list[Unit] = []
        for video in range(videos):
            first = video * (frames * n + closes)
            own = [
                Unit(torch.arange(first + i * n, first + (i + 1) * n), grid, video * frames + i) for i in range(frames)
            ]
            units += own if scope == "tile" else [join_tiles(own)]
        owners = [video for video in range(videos) for _ in range(frames)]
        return self._laid_out(units, list(pixels.flatten(0, 1)), videos * (frames * n + 1), videos, owners)

    def _laid_out(
        self, units: list[Unit], pixels: list[Tensor], slots: int, newlines: int, owners: list[int]
    ) -> Layout:
        fixed_slots = newlines if self.options.newline == "keep" else 0
        n = self.tower.grid[0] * self.tower.grid[1]
        return Layout(
            group_by_grid(units, pixels[0].device), pixels, slots, n, n, fixed_slots=fixed_slots, images=owners
        )

    def per_token(self, parts: list[Tensor]) -> Tensor:
        return self._arrange(torch.cat(parts).transpose(1, 2)).T

    def prepare(self, prunes_before: bool) -> list[Any]:
        return [MarkedNewline(self.base_model)] if prunes_before and self.options.newline == "drop" else []

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        tokens = (self.config.image_token_id, self.config.video_token_id)
        return torch.isin(input_ids, torch.tensor(tokens, device=input_ids.device))

    @property
    def encoder_sizes(self) -> EncoderSizes:
        if self.config.vision_config.vision_use_head:
            raise UncountableFlops("the vision encoder has a pooling head (vision_use_head), which is not counted")
        return super().encoder_sizes


class MarkedNewline:
    """Mark of every newline embedding as dropped, by an instance attribute that hides the model's parameter."""

    def __init__(self, base_model: Any) -> None:
        self.base_model = base_model
        vars(base_model)["image_newline"] = torch.full_like(base_model.image_newline, torch.nan)

    def remove(self) -> None:
        """Restore the model's newline."""
        del vars(self.base_model)["image_newline"]


def describe_tower(config: Any) -> Tower:
    """Return the facts of the encoder from config.json alone. Raises UserError for encoders other than SigLIP's."""
    vision, layer = config.vision_config, config.vision_feature_layer
    if vision.model_type != "siglip_vision_model" or config.vision_feature_select_strategy != "full":
        raise UserError(
            f"vision encoder '{vision.model_type}' with vision_feature_select_strategy="
            f"'{config.vision_feature_select_strategy}': only siglip_vision_model with 'full' is supported"
        )
    if not isinstance(layer, int):
        raise UserError(f"vision_feature_layer={layer}: only checkpoints that read one layer are supported")
    side = vision.image_size // vision.patch_size
    # hidden_states counts the embeddings as entry 0, so entry -1 is the output of the last layer.
    feature_layer = layer - 1 if layer >= 0 else vision.num_hidden_layers + layer
    return Tower(vision.num_hidden_layers, feature_layer, (side, side), has_cls=False, grid_varies=True)


def adapt(model: Any) -> LlavaOnevision:
    """Return the adapter of a LlavaOnevisionForConditionalGeneration."""
    return LlavaOnevision(model)
