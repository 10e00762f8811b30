"""Sizes of a family's vision encoder, and its input for one question: tiles, frames, grids.

The sizes come from the checkpoint's config, the input from the question's images or video; flops.py multiplies them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vlmprune.methods.uniform import Uniform

if TYPE_CHECKING:
    from vlmprune.models.base import Adapter

Grid = tuple[int, int]  # rows, columns
EACH_TILE = Uniform(scope="tile")  # a layout for this method has the smallest units, whatever method runs


class Uncountable(ValueError):
    """FLOPs that cannot be counted without guessing; the message says why."""


@dataclass(frozen=True)
class EncoderSizes:
    """Matrix sizes of one family's vision encoder, mergers and projector, in multiply-accumulates (MACs).

    width: of its hidden states. heads: of its attention. cls: 1 where a tile has [CLS] before its patches. patch_macs:
    embedding one patch. layer_macs: one token in one layer, without the products of queries and keys. projector_macs:
    one token. merger_macs: one token in other parts than layers and projector (DeepStack's mergers). feature_width: of
    the signal `features`. window: patches along a side of an attention window, None for attention over whole tiles,
    which `full_layers` have in any case.
    """

    width: int
    heads: int
    cls: int
    patch_macs: int
    layer_macs: int
    projector_macs: int
    feature_width: int
    merger_macs: int = 0
    window: int | None = None
    full_layers: frozenset[int] = frozenset()

    def tokens(self, tile: Grid) -> int:
        """Return the number of positions of a tile in a layer: its patches, and [CLS]."""
        return tile[0] * tile[1] + self.cls

    def pairs(self, layer: int, tile: Grid) -> int:
        """Return the number of (query, key) pairs of a tile that attention in `layer` multiplies."""
        if self.window is None or layer in self.full_layers:
            return self.tokens(tile) ** 2
        return _squares(tile[0], self.window) * _squares(tile[1], self.window)

    def layer_flops(self, tokens: int, pairs: int) -> float:
        """Return the FLOPs of one layer for `tokens` positions and `pairs` of (query, key)."""
        return 2 * tokens * self.layer_macs + 4 * pairs * self.width


def _squares(length: int, size: int) -> int:
    """Return the sum of squares of the pieces of `length`, cut into pieces of `size` and a rest."""
    return length // size * size**2 + (length % size) ** 2


@dataclass(frozen=True)
class Encoded:
    """Input of the vision encoder for one question, as recorded on the question's line in predictions.jsonl.

    slots: visual slots of the unpruned prompt. newlines: those of them that pruning before the language model never
    drops. tiles: the patch grid of each tile, crop, frame or temporal step. projected: rows that go to the projector
    where nothing is dropped before it. units: per image or video, the number of tokens of each of its tiles in the
    prompt, which a method ranks together (or those of all tiles, with scope=image).
    """

    slots: int
    newlines: int
    tiles: list[Grid]
    projected: int
    units: list[list[int]]

    @classmethod
    def of(cls, adapter: Adapter, tensors: dict[str, Tensor]) -> Encoded:
        """Return the input for the media of one prompt, given as `Media.tensors`; pixel values are not read."""
        slots = newlines = projected = 0
        tiles: list[Grid] = []
        units: list[list[int]] = []
        videos = {name: tensor for name, tensor in tensors.items() if "video" in name}
        images = {name: tensor for name, tensor in tensors.items() if name not in videos}
        for encoder, arguments in (("get_image_features", images), ("get_video_features", videos)):
            if not arguments:
                continue
            layout = adapter.layout(encoder, arguments, EACH_TILE)
            slots, newlines = slots + layout.slots, newlines + layout.stays
            tiles += adapter.patch_grids(layout)
            projected += adapter.projected_rows(layout)
            owners = layout.images or list(range(len(layout.pixels)))
            own: list[list[int]] = [[] for _ in range(max(owners) + 1)]
            for group in layout.groups:
                for tile in group.tiles:
                    own[owners[tile]].append(group.index.shape[1])
            units += own
        return cls(slots, newlines, tiles, projected, units)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Encoded:
        """Return the inverse of `as_dict`, also from data that was written as JSON."""
        known = {field.name: data[field.name] for field in fields(cls)}  # a newer version may have more
        return cls(**known | {"tiles": [(rows, columns) for rows, columns in data["tiles"]]})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def ranked(self, scope: str) -> list[int]:
        """Return the number of tokens of each unit that a method with this scope ranks."""
        return [n for image in self.units for n in (image if scope == "tile" else [sum(image)])]
