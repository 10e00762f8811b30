"""Qwen2.5-VL (Qwen2_5_VLForConditionalGeneration): windowed ViT without [CLS], merger inside the tower, mrope.

The grid of patches depends on the size of the picture; the merger makes one token of 2 x 2 patches. Two frames of a
video make one temporal step, with a grid like a picture's. Rotary positions are (time, row, column), so that kept
tokens must keep their positions.

A frame is preprocessed as a picture is, by the checkpoint's image processor; transformers' video processor does the
same with torchvision.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Interval
from PIL import Image
from torch import Tensor

from vlmprune.config.settings import ModelConfig
from vlmprune.engine.layout import Layout, Unit, group_by_grid, join_tiles
from vlmprune.errors import UserError
from vlmprune.methods.base import Method, Positions, Tower
from vlmprune.methods.tensor_ops import pairwise_mean
from vlmprune.models.base import Adapter, EncoderSizes, Grid
from vlmprune.models.geometry import Box, Pixels, View, grid_of
from vlmprune.models.preprocessing import Media, Preprocessor, Processors

Area = Annotated[int, Interval(ge=1, le=10**9)]  # pixels


@dataclass(frozen=True)
class Options:
    """Least and most pixels of a picture, and of a frame (on Qwen3-VL: of all frames); None: as the checkpoint says."""

    min_pixels: Area | None = None
    max_pixels: Area | None = None
    video_min_pixels: Area | None = None
    video_max_pixels: Area | None = None


LIMITS = tuple(field.name for field in fields(Options))


class Inputs(Preprocessor):
    """Preprocessor that takes frames as two a second, Qwen's sampling rate, since their real times are not known.

    The model assumes the same without `second_per_grid_ts`: one second for a temporal step of two frames.
    """

    takes_video: ClassVar[bool] = True
    video_default: ClassVar[dict[str, int] | None] = None  # limits if the checkpoint has none; None: those of a picture
    video_unit: ClassVar[str] = "frame"  # to which the limits of a video apply

    def __init__(self, processors: Processors, adapter: Adapter, config: ModelConfig) -> None:
        super().__init__(processors, adapter, config)
        processor = processors.image_processor
        self.side = processor.patch_size * processor.merge_size  # pixels of a token in each direction
        self._own = self._resolve({})
        self._limits = self._resolve(vars(adapter.options))
        self._check(vars(adapter.options))

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
        cell = self.side**2 * (self.processors.image_processor.temporal_patch_size if video else 1)
        unit = self.video_unit if video else "picture"
        return f"{least:,} to {most:,} pixels a {unit} (at most {most // cell:,} visual tokens)"

    def _resolve(self, given: dict[str, int | None]) -> dict[str, int]:
        """Return the checkpoint's limits, replaced by those in `given`. Raises UserError if it has none."""
        size = self.processors.image_processor.size
        try:
            image = _overlaid((size["shortest_edge"], size["longest_edge"]), given, "")
            own = self.processors.video_size or self.video_default
            frames = image if own is None else (own["shortest_edge"], own["longest_edge"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"model.path={self.config.path}: size={size} of its image processor, {self.processors.video_size} of "
                "its video processor; allowed: shortest_edge and longest_edge, in pixels"
            ) from error
        return dict(zip(LIMITS, (*image, *_overlaid(frames, given, "video_")), strict=True))

    def _check(self, given: dict[str, int | None]) -> None:
        """Raise UserError if the run's limits allow no picture."""
        cell = self.side**2
        for name in LIMITS:
            if (value := given[name]) is not None and value < cell:
                raise UserError(
                    f"model.{name}={value}: less than one visual token, {self.side} x {self.side} pixels; allowed: "
                    f"{cell} or more"
                )
        for prefix in ("", "video_"):
            low, high = f"{prefix}min_pixels", f"{prefix}max_pixels"
            if self._limits[low] > self._limits[high]:
                both = (f"{n}={self._limits[n]}{'' if given[n] else ' (the checkpoint)'}" for n in (low, high))
                raise UserError(f"model.{' and model.'.join(both)}: allowed: {low} up to {high}; give both")

    def agreements(self) -> dict[str, tuple[Any, Any]]:
        processor, vision = self.processors.image_processor, self.adapter.config.vision_config
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
        return Media("image", tensors, self.processors.image_token * self.tokens(grid))

    def video(self, frames: list[Image.Image]) -> Media:
        step = self.processors.image_processor.temporal_patch_size
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
        merge = self.processors.image_processor.merge_size
        steps, rows, columns = medium.tensors[f"{medium.kind}_grid_thw"][0].tolist()
        grid = rows // merge, columns // merge
        if medium.kind == "image":
            return [View(0, self.original_box(sizes[0], Box.whole), grid_of(*grid))]
        step = self.processors.image_processor.temporal_patch_size
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
        return str(self.processors.video_token) * self.tokens(grid)

    def tokens(self, grid: Tensor) -> int:
        """Return the number of visual tokens of a grid [1, 3] of patches."""
        return int(grid.prod()) // self.processors.image_processor.merge_size**2

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


__all__ = ["SIGNALS", "Inputs", "Options", "adapt", "check_method", "describe_tower"]

SIGNALS = frozenset({"seeds", "cls_attention", "received_attention", "features", "projected", "decoder_attention"})
KEEPS_POSITIONS = True
RANKS_TOGETHER = frozenset({"video"})
TYPICAL = (480, 640)  # pixels of the picture whose grid is used as Tower.grid


class Qwen2_5VL(Adapter):
    """Adapter with a picture, or one temporal step of a video, as unit; tokens are dropped after the merger.

    `cls_attention` is the mean attention that a token's 2 x 2 patches receive from all patches of their picture.
    """

    signals = SIGNALS
    options = Options()

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.tower = describe_tower(model.config)
        self._patches: list[int] = []  # number of patches of each tile of the last encoding
        self._raster = torch.empty(0, dtype=torch.long)  # index in the encoder's order of each token in raster order

    @property
    def encoders(self) -> tuple[str, ...]:
        return ("get_image_features", "get_video_features")

    @property
    def vision_towers(self) -> list[Any]:
        return [self.model.model.visual]

    @property
    def projector(self) -> Any:
        return self.model.model.visual.merger

    @property
    def projects_each_token(self) -> bool:
        return False

    @property
    def encodes_tiles_apart(self) -> bool:
        return False  # all patches of all pictures are one sequence

    def vision_layers(self, index: int) -> list[Any]:
        return [self.model.model.visual.blocks[index]]

    def vision_attentions(self, index: int) -> list[Any]:
        return [layer.attn for layer in self.vision_layers(index)]

    def layout(self, encoder: str, arguments: dict[str, Any], scope: str) -> Layout:
        video = encoder == "get_video_features"
        pixels = arguments["pixel_values_videos" if video else "pixel_values"]  # [patches of all tiles, pixels of one]
        sizes = arguments["video_grid_thw" if video else "image_grid_thw"].tolist()
        merge = self.config.vision_config.spatial_merge_size
        units: list[Unit] = []
        orders: list[Tensor] = []
        images: list[int] = []
        self._patches = []
        first = 0
        for image, (steps, height, width) in enumerate(sizes):
            grid = (height // merge, width // merge)
            n = grid[0] * grid[1]
            tile = len(images)
            own = [Unit(torch.arange(n) + first + step * n, grid, tile + step) for step in range(steps)]
            units += own if scope == "tile" or steps == 1 else [join_tiles(own)]
            orders += [self.encoder_order(grid) + unit.tokens[0] for unit in own]
            self._patches += [height * width] * steps
            images += [image] * steps
            first += steps * n
        self._raster = torch.cat(orders).argsort().to(pixels.device)
        return Layout(
            group_by_grid(units, pixels.device),
            list(pixels.split(self._patches)),
            slots=first,
            tile_tokens=1,  # tiles differ in size; the marked result has one row per token
            tile_rows=1,
            images=images,
        )

    def encoder_order(self, grid: tuple[int, int]) -> Tensor:
        """Return int64 [n], the tokens of a grid in the order of the encoder, window after window."""
        vision = self.config.vision_config
        side = vision.window_size // vision.spatial_merge_size // vision.patch_size
        row, column = torch.arange(grid[0]).unsqueeze(1), torch.arange(grid[1])
        window = row // side * grid[1] + column // side
        return window.flatten().argsort(stable=True)

    def per_token(self, parts: list[Tensor]) -> Tensor:
        """Return the mean signal of each token's patches, [H, S], in raster order.

        parts: one per picture or, in layers with window attention, per window, [1, H, P], a mean over its query rows.
        It becomes a mean over those of the whole picture: query rows outside a window give its patches nothing.
        """
        ends = list(accumulate(self._patches))
        shares, start = [], 0
        for part in parts:
            rows = part.shape[2]
            shares.append(part[0] * (rows / self._patches[bisect_right(ends, start)]))
            start += rows
        group = self.config.vision_config.spatial_merge_size**2
        return pairwise_mean(torch.cat(shares, dim=1).unflatten(1, (-1, group)), dim=2)[:, self._raster]

    def rotary(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        # transformers may put a row of plain positions before the three; 5.17 does not accept plain ones alone.
        spatial = positions.expand(3, -1, -1) if positions.dim() == 2 else positions[-3:]
        return self.language_model.rotary_emb(hidden, position_ids=spatial)

    def visual_mask(self, input_ids: Tensor) -> Tensor:
        return (input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)

    def clear_positions(self) -> None:
        self.base_model.rope_deltas = None

    def position_rule(self, method: Method) -> Positions:
        return "keep"

    @property
    def encoder_sizes(self) -> EncoderSizes:
        vision = self.config.vision_config
        c, token = vision.hidden_size, vision.hidden_size * vision.spatial_merge_size**2
        cell = vision.patch_size * vision.spatial_merge_size
        return EncoderSizes(
            width=c,
            heads=vision.num_heads,
            cls=0,
            patch_macs=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * c,
            layer_macs=4 * c**2 + 3 * c * vision.intermediate_size,  # its MLP is gated
            projector_macs=token**2 + token * vision.out_hidden_size,
            feature_width=vision.out_hidden_size,
            window=vision.window_size // cell * vision.spatial_merge_size,
            full_layers=frozenset(vision.fullatt_block_indexes),
        )

    def patch_grids(self, layout: Layout) -> list[Grid]:
        merge = self.config.vision_config.spatial_merge_size
        grids = (group.grid for group in layout.groups for _ in group.tiles)
        return [(rows * merge, columns * merge) for rows, columns in grids]

    def projected_rows(self, layout: Layout) -> int:
        return layout.slots


def describe_tower(config: Any) -> Tower:
    """Return the facts of the encoder from config.json alone. grid: that of a picture of 640 x 480; others differ."""
    vision = config.vision_config
    cell = vision.patch_size * vision.spatial_merge_size
    rows, columns = (round(length / cell) for length in TYPICAL)
    return Tower(vision.depth, vision.depth - 1, (rows, columns), has_cls=False, grid_varies=True)


def check_method(method: Method) -> None:
    """Raise ValueError if the method would renumber positions, or order tokens other than spatially."""
    for part in (method, *method.parts(1)):
        if part.positions == "renumber":
            raise ValueError("positions=renumber: this model's positions are rows and columns; allowed: keep")
        if getattr(part, "keep_order", "spatial") != "spatial":
            raise ValueError("keep_order=score: this model's tokens keep their rows and columns; allowed: spatial")


def adapt(model: Any) -> Qwen2_5VL:
    """Return the adapter of a Qwen2_5_VLForConditionalGeneration."""
    return Qwen2_5VL(model)
