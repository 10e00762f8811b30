"""The order of tokens where an image's tiles are stitched into one picture, whose rows run through several tiles.

Patches have a place in that picture. A [CLS], or a token that stands for patches all over its tile, has none: among
patches it would push others out of their row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmprune.pruning.layout import Layout
from vlmprune.pruning.picked import Picked


def stitched(picked: Picked, blocks: list[int], tiles: list[int], layout: Layout) -> Picked:
    """Hand an image's slots to its tokens anew: its first tile's in their order, then those of all others by block.

    Block 0 holds patches, in the order of their slots; each further block goes tile by tile. picked: in the order of
    selection, each token at its own slot, all valid. blocks, tiles: of each token, on the host.
    """
    images = layout.images
    assert images is not None
    device = picked.rows.device
    behind = [tile > 0 and images[tile] == images[tile - 1] for tile in tiles]  # whether it is not its image's first
    facts = torch.tensor([behind, [images[tile] for tile in tiles], tiles, blocks])
    later, image, tile, block = facts.to(device, non_blocking=True)
    block = block * later
    slot = slots_of_rows(layout).to(device, non_blocking=True)[picked.rows]
    within = torch.where(block > 0, tile, slot * later)  # the first tile's are all equal: their order stays
    sizes = max(blocks) + 1, layout.slots + len(layout.pixels)
    key = ((2 * image + later) * sizes[0] + block) * sizes[1] + within
    return Picked(picked.rows[slot.argsort()], picked.tokens[key.argsort(stable=True)], None)


def slots_of_rows(layout: Layout) -> Tensor:
    """int64 [rows]: the slot in the prompts that each row fills, 0 for rows that fill none."""
    assert layout.order is not None
    filled = layout.order >= 0
    slots = layout.order.new_zeros(len(layout.pixels) * layout.tile_rows)
    slots[layout.rows(layout.order[filled])] = filled.nonzero().squeeze(1)
    return slots
