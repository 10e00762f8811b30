"""InternVL 3 (transformers: InternVLForConditionalGeneration): InternViT encoder, MLP projector, Qwen2 decoder.

A picture is cut into tiles of 448 px, followed by a thumbnail of the whole; a frame of a video is one tile. Pixel
shuffle turns the 32 x 32 patches of a tile into 16 x 16 tokens: each concatenates the features of 2 x 2 patches, and
the projector maps each independently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Interval
from PIL import Image
from torch import Tensor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from vlmprune.config.settings import ModelConfig
from vlmprune.engine.layout import Layout, tile_layout
from vlmprune.errors import UserError
from vlmprune.methods.base import Method, Tower
from vlmprune.methods.tensor_ops import pairwise_mean
from vlmprune.models.base import Adapter, EncoderSizes, Grid
from vlmprune.models.geometry import Box, Pixels, View, grid_of, squared
from vlmprune.models.preprocessing import Media, Preprocessor, Processors

# cls_feature is absent, because a token of four patches is four times as wide as [CLS]; encoder_layers, because pixel
# shuffle needs the whole grid.
SIGNALS = frozenset(
    {
        "seeds",
        "cls_attention",
        "received_attention",
        "keys",
        "queries",
        "features",
        "projected",
        "decoder_attention",
        "tiles",
    }
)


RANKS_TOGETHER: frozenset[str] = frozenset()  # its encoder is not told which tiles are of one picture
Tiles = Annotated[int, Interval(ge=1, le=10_000)]


@dataclass(frozen=True)
class Options:
    """Least and most tiles that a picture is cut into; None: as the checkpoint says."""

    min_tiles: Tiles | None = None
    max_tiles: Tiles | None = None


class InternVL(Adapter):
    """Adapter with each tile as a unit of 16 x 16 tokens; signals per patch are averaged over the 2 x 2 of a token."""

    signals = SIGNALS
    options = Options()

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.tower = describe_tower(model.config)
        self.side = round(1 / model.config.downsample_ratio)  # patches of a token in each direction

    def vision_layers(self, index: int) -> list[Any]:
        return [self.model.model.vision_tower.encoder.layer[index]]

    def vision_attentions(self, index: int) -> list[Any]:
        return [layer.attention for layer in self.vision_layers(index)]

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        return tile_layout(arguments["pixel_values"], self.tower.grid)

    def per_token(self, parts: list[Tensor]) -> Tensor:
        (rows, columns), side = self.tower.grid, self.side
        patches = torch.cat(parts)  # [tiles, H, P, ...] in raster order
        squares = patches.unflatten(2, (rows, side, columns, side))
        blocks = pairwise_mean(pairwise_mean(squares, dim=5), dim=3)
        return super().per_token([blocks.flatten(2, 3)])

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        return input_ids == self.config.image_token_id

    def detail(self, visual: Tensor) -> Tensor:
        """Return bool [B, L], True at all tiles of a picture but the last, its thumbnail; text separates pictures."""
        n = self.tower.grid[0] * self.tower.grid[1]
        count = visual.cumsum(dim=1)
        followed = torch.zeros_like(visual)  # by n more visual tokens of the same picture
        followed[:, :-n] = count[:, n:] - count[:, :-n] == n
        return visual & followed

    @property
    def encoder_sizes(self) -> EncoderSizes:
        vision, width = self.config.vision_config, self.config.text_config.hidden_size
        c, token = vision.hidden_size, vision.hidden_size * self.side**2  # a token concatenates its patches
        return EncoderSizes(
            width=c,
            heads=vision.num_attention_heads,
            cls=1,
            patch_macs=vision.num_channels * vision.patch_size[0] * vision.patch_size[1] * c,
            layer_macs=4 * c**2 + 2 * c * vision.intermediate_size,
            projector_macs=token * width + width**2,
            feature_width=token,
        )

    def patch_grids(self, layout: Layout) -> list[Grid]:
        rows, columns = self.tower.grid
        return [(rows * self.side, columns * self.side)] * len(layout.pixels)


class Inputs(Preprocessor):
    """Preprocessor: a picture becomes tiles and a thumbnail; a frame becomes one tile, after its number in the text."""

    takes_video: ClassVar[bool] = True

    def __init__(self, processors: Processors, adapter: Adapter, config: ModelConfig) -> None:
        names = ("start_image_token", "<img>"), ("end_image_token", "</img>"), ("video_token", "<video>")
        self.start, self.end, video = (getattr(processors.tokenizer, name, default) for name, default in names)
        # Only the chat template has a token for videos; the model has none.
        super().__init__(replace(processors, video_token=video), adapter, config)
        least, most = self.limits["min_tiles"], self.limits["max_tiles"]
        if least > most:
            raise UserError(f"model.min_tiles={least} and model.max_tiles={most}: allowed: min_tiles up to max_tiles")

    @property
    def limits(self) -> dict[str, int]:
        given = vars(self.adapter.options)
        return {name: own if given[name] is None else given[name] for name, own in self.own_limits.items()}

    @property
    def own_limits(self) -> dict[str, int]:
        processor = self.processors.image_processor
        if not hasattr(processor, "max_patches"):
            raise UserError(
                f"model.path={self.config.path}: its image processor, {type(processor).__name__}, cuts no tiles and is "
                "another model's; correct preprocessor_config.json"
            )
        return {"min_tiles": processor.min_patches, "max_tiles": processor.max_patches}

    def limits_text(self, kind: Literal["image", "video"]) -> str:
        least, most = self.limits.values()
        return (
            "1 tile a frame"
            if kind == "video"
            else f"{least} to {most} tiles a picture, and a thumbnail beside several"
        )

    def image(self, image: Image.Image) -> Media:
        pixels = self.pixels([self.squared(image)], crop_to_patches=True)
        return Media("image", {"pixel_values": pixels}, self.tiles(len(pixels)))

    def video(self, frames: list[Image.Image]) -> Media:
        text = "\n".join(f"Frame{number}: {self.tiles(1)}" for number in range(1, len(frames) + 1))
        return Media("video", {"pixel_values": self.pixels(frames, crop_to_patches=False)}, text)

    def views(self, medium: Media, sizes: list[Pixels]) -> list[View]:
        """Return the stitched tiles and the thumbnail, or the only tile; for a video, its frames. All are stretched."""
        rows, columns = self.adapter.tower.grid
        n, tiles = rows * columns, len(medium.tensors["pixel_values"])
        if medium.kind == "video":
            return [
                View(index, Box.whole(size), grid_of(rows, columns, index * n), f"frame {index + 1}")
                for index, size in enumerate(sizes)
            ]
        box = self.original_box(sizes[0], Box.whole)
        if tiles == 1:
            return [View(0, box, grid_of(rows, columns))]
        across, down = self.canvas(sizes[0])
        stitched = torch.arange(n * across * down).view(down, across, rows, columns).transpose(1, 2)
        slots = stitched.reshape(down * rows, across * columns)
        thumbnail = grid_of(rows, columns, n * (tiles - 1))
        return [
            View(0, box, slots, f"{down} x {across} tiles", (down, across)),
            View(0, box, thumbnail, "thumbnail"),
        ]

    def canvas(self, size: Pixels) -> tuple[int, int]:
        """Return the columns and rows of tiles into which a picture is cut."""
        processor = self.processors.image_processor
        (width, height), _ = squared(size, self.config.image == "pad")
        tile = processor.size["height"], processor.size["width"]
        return get_optimal_tiled_canvas((height, width), tile, *self.limits.values())

    def pixels(self, images: list[Image.Image], crop_to_patches: bool) -> Tensor:
        """Return float32 [tiles, 3, H, W]."""
        least, most = self.limits.values()
        given = self.tensors(images, crop_to_patches=crop_to_patches, min_patches=least, max_patches=most)
        return given["pixel_values"]

    def tiles(self, count: int) -> str:
        """Return the placeholders of a picture of `count` tiles, with its start and end tokens."""
        rows, columns = self.adapter.tower.grid
        return self.start + self.processors.image_token * (rows * columns * count) + self.end


def describe_tower(config: Any) -> Tower:
    """Return the facts of the encoder from config.json alone. grid: tokens of one tile."""
    vision, layer = config.vision_config, config.vision_feature_layer
    if not isinstance(layer, int):
        raise UserError(f"vision_feature_layer={layer}: only InternVL checkpoints that read one layer are supported")
    if config.vision_feature_select_strategy != "default":
        raise UserError(
            f"vision_feature_select_strategy='{config.vision_feature_select_strategy}': only 'default' is supported"
        )
    height, width = (size // patch for size, patch in zip(vision.image_size, vision.patch_size, strict=True))
    if height != width:
        raise UserError(
            f"image_size={list(vision.image_size)}: only InternVL checkpoints with square tiles are supported"
        )
    side = int(height * config.downsample_ratio)
    # hidden_states counts the embeddings as entry 0, so entry -1 of 24 layers is the output of layer 23.
    feature_layer = layer - 1 if layer >= 0 else vision.num_hidden_layers + layer
    return Tower(vision.num_hidden_layers, feature_layer, (side, side), has_cls=True)


def check_method(method: Method) -> None:
    """Raise ValueError for scope=image: the encoder receives tiles without the picture that each belongs to."""
    for part in method.parts(1):  # the parts do not depend on the number of tokens
        if getattr(part, "scope", None) == "image":
            raise ValueError("scope=image: InternVL's tiles cannot be ranked together; allowed: tile")


def adapt(model: Any) -> InternVL:
    """Return the adapter of an InternVLForConditionalGeneration."""
    return InternVL(model)
