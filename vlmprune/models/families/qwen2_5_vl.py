"""Qwen2.5-VL (Qwen2_5_VLForConditionalGeneration): windowed ViT without [CLS], merger inside it, mrope.

The grid of patches depends on the size of the picture; the merger makes one token of 2 x 2 patches. Two frames of a
video make one temporal step, with a grid like a picture's. Rotary positions are (time, row, column), so that kept
tokens must keep their positions.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vlmprune.measure.encoder import EncoderSizes, Grid
from vlmprune.methods.base import Method, Positions, SequenceMethod, Tower
from vlmprune.methods.reductions import pairwise_mean
from vlmprune.models.base import Adapter
from vlmprune.models.qwen2_5_vl_inputs import LIMITS, Inputs
from vlmprune.pruning.layout import Layout, Unit, grouped, together

__all__ = ["LIMITS", "SIGNALS", "Inputs", "adapt", "check_method", "describe_tower"]

SIGNALS = frozenset({"seeds", "cls_attention", "received_attention", "features", "projected", "decoder_attention"})
KEEPS_POSITIONS = True
RANKS_TOGETHER = frozenset({"video"})
TYPICAL = (480, 640)  # pixels of the picture whose grid is used as Tower.grid


class Qwen2_5VL(Adapter):
    """Adapter with a picture, or one temporal step of a video, as unit; tokens are dropped after the merger.

    `cls_attention` is the mean attention that a token's 2 x 2 patches receive from all patches of their picture.
    """

    signals = SIGNALS

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

    def layout(self, encoder: str, arguments: dict[str, Any], method: SequenceMethod) -> Layout:
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
            units += own if method.scope_rule == "tile" or steps == 1 else [together(own)]
            orders += [self.tower_order(grid) + unit.tokens[0] for unit in own]
            self._patches += [height * width] * steps
            images += [image] * steps
            first += steps * n
        self._raster = torch.cat(orders).argsort().to(pixels.device)
        return Layout(
            grouped(units, pixels.device),
            list(pixels.split(self._patches)),
            slots=first,
            tile_tokens=1,  # tiles differ in size; the marked result has one row per token
            tile_rows=1,
            images=images,
        )

    def tower_order(self, grid: tuple[int, int]) -> Tensor:
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

    def forget_positions(self) -> None:
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
