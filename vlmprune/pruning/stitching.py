"""Order of the kept tokens of an image whose tiles are stitched into one picture, with rows through several tiles.

Patches have a position in that picture. A [CLS], or a token merged from patches all over its tile, has none: among the
patches it would shift others out of their row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmprune.pruning.layout import Layout
from vlmprune.pruning.picked import Picked


def stitched(picked: Picked, blocks: list[int], tiles: list[int], layout: Layout) -> Picked:
    """Reorder the kept tokens of tiled images: the first tile's in their order, then those of all others by block.

    Block 0 holds patches, in the order of their slots; each further block is ordered by tile. picked: in the order of
    selection, all valid, each token at the slot that it was selected with; the same slots are taken in the new order.
    blocks, tiles: block and tile of each token, on the host.
    """
    images = layout.images
    assert images is not None
    device = picked.rows.device
    behind = [tile > 0 and images[tile] == images[tile - 1] for tile in tiles]  # True after the image's first tile
    facts = torch.tensor([behind, [images[tile] for tile in tiles], tiles, blocks])
    later, image, tile, block = facts.to(device, non_blocking=True)
    block = block * later
    slot = slots_of_rows(layout).to(device, non_blocking=True)[picked.rows]
    within = torch.where(block > 0, tile, slot * later)  # the first tile's keys are all 0: a stable sort keeps them
    sizes = max(blocks) + 1, layout.slots + len(layout.pixels)
    key = ((2 * image + later) * sizes[0] + block) * sizes[1] + within
    return Picked(picked.rows[slot.argsort()], picked.tokens[key.argsort(stable=True)], None)


def slots_of_rows(layout: Layout) -> Tensor:
    """Return int64 [rows], the slot in the prompts that each row fills; 0 for rows that fill none."""
    assert layout.order is not None
    filled = layout.order >= 0
    slots = layout.order.new_zeros(len(layout.pixels) * layout.tile_rows)
    slots[layout.rows(layout.order[filled])] = filled.nonzero().squeeze(1)
    return slots
