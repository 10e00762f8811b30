"""Selection between the vision encoder and decoder layer 0, and the order of kept tokens across tiles.

Patches have a position in the picture of a tiled image. A [CLS], or a token merged from patches all over its tile, has
none: among the patches it would shift others out of their row.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vlmprune.engine.adapter import ModelInterface, TextRelevance
from vlmprune.engine.contract import checked_shares, non_finite_images
from vlmprune.engine.encoder_hooks import EncoderHooks, KeptTokens
from vlmprune.engine.hooks import full_precision
from vlmprune.engine.layout import Layout
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import Method, Selection, SequenceMethod


def sort_rows(rows: Tensor, valid: Tensor | None) -> Tensor:
    """Sort rows [G, k] within each unit, those that are not valid last."""
    if valid is None:
        return rows.sort(dim=1).values
    last = torch.iinfo(rows.dtype).max
    return rows.gather(1, rows.masked_fill(~valid, last).argsort(dim=1, stable=True))


def concatenate(kept: list[KeptTokens], like: Tensor) -> KeptTokens:
    """Concatenate the results of all groups; `valid` is None if no group has one. like: [S, C], for no groups."""
    if not kept:
        return KeptTokens(torch.empty(0, dtype=torch.long, device=like.device), like[:0], None)
    valid = None
    if any(part.valid is not None for part in kept):
        valid = torch.cat(
            [torch.ones_like(part.rows, dtype=torch.bool) if part.valid is None else part.valid for part in kept]
        )
    return KeptTokens(torch.cat([part.rows for part in kept]), torch.cat([part.tokens for part in kept]), valid)


def order_by_block(kept: KeptTokens, blocks: list[int], tiles: list[int], layout: Layout) -> KeptTokens:
    """Reorder the kept tokens of tiled images: the first tile's in their order, then those of all others by block.

    Block 0 holds patches, in the order of their slots; each further block is ordered by tile. kept: in the order of
    selection, all valid, each token at the slot that it was selected with; the same slots are taken in the new order.
    blocks, tiles: block and tile of each token, on the host.
    """
    images = layout.images
    assert images is not None
    device = kept.rows.device
    behind = [tile > 0 and images[tile] == images[tile - 1] for tile in tiles]  # True after the image's first tile
    facts = torch.tensor([behind, [images[tile] for tile in tiles], tiles, blocks])
    later, image, tile, block = facts.to(device, non_blocking=True)
    block = block * later
    slot = layout.slots_of_rows().to(device, non_blocking=True)[kept.rows]
    within = torch.where(block > 0, tile, slot * later)  # the first tile's keys are all 0: a stable sort keeps them
    sizes = max(blocks) + 1, layout.slots + len(layout.pixels)
    key = ((2 * image + later) * sizes[0] + block) * sizes[1] + within
    return KeptTokens(kept.rows[slot.argsort()], kept.tokens[key.argsort(stable=True)], None)


def report_selection(observer: SelectionObserver, selection: Selection, slots: Tensor, chosen: Tensor) -> None:
    """Report a selection from tokens at `slots` [G, n]. chosen: the selected ones as they were before, [G, k, C]."""
    changed = torch.zeros_like(slots, dtype=torch.bool)
    if selection.features is not None:
        different = (selection.features != chosen).any(dim=2)
        changed.scatter_(1, selection.indices.to(slots.device), different)
    scores = None if selection.scores is None else selection.scores.flatten()
    observer.observe_selection(0, slots.flatten(), scores, changed.flatten())


class SequenceStage(EncoderHooks):
    """Hooks that run one `SequenceMethod`.

    whole: the method of which `method` is a part, and which decides the number of kept tokens; None if it is no part.
    """

    method: SequenceMethod

    def __init__(
        self,
        adapter: ModelInterface,
        method: SequenceMethod,
        clock: Clock,
        text_tower: TextRelevance | None = None,
        whole: Method | None = None,
        observer: SelectionObserver | None = None,
    ) -> None:
        super().__init__(adapter, method, clock, observer)
        self.text_tower = text_tower
        self.shares = partial(checked_shares, whole or method)

    def _select_tokens(self, name: str, features: Tensor) -> KeptTokens:
        layout, flat = self._layout, features.flatten(0, 1)
        tokens = {name: flat if layout.tile_rows == layout.tile_tokens else flat[self._token_rows(flat)]}
        if not self.adapter.projects_each_token:
            tokens["features"] = flat
        if "text_relevance" in self.method.needs:
            tokens["text_relevance"] = self._relevance()
            tokens["largest_relevance"] = layout.image_maximum(tokens["text_relevance"])
        renumber = self.adapter.position_rule(self.method) == "renumber"  # then positions say only the order of tokens
        parts: list[KeptTokens] = []
        blocks: list[int] = []
        tiles: list[int] = []
        for group, k in layout.groups_by_count(self.shares):
            signals = self.reader.group_signals(group, layout, **tokens)
            with full_precision(flat.device):
                selection = self.checked_method.select(signals, k, flat)
            chosen = layout.rows(group.index).gather(1, selection.indices.to(flat.device))
            if self.observer is not None:
                report_selection(self.observer, selection, layout.slots_of(group.index), flat[chosen])
            kept = flat[chosen] if selection.features is None else selection.features.to(flat.dtype)
            for unsound in (non_finite_images(signals), selection.unsound):
                if unsound is not None:  # marked here and detected with the dropped slots: a check would be a host sync
                    kept = kept.masked_fill(unsound.to(kept.device)[:, None, None], torch.nan)
            valid = selection.valid
            if renumber and layout.stitched and selection.blocks is not None:
                blocks += selection.blocks * len(group.tiles)
                tiles += [tile for tile in group.tiles for _ in selection.blocks]
            elif renumber:
                chosen = sort_rows(chosen, valid)
            parts.append(KeptTokens(chosen.flatten(), kept.flatten(0, 1), None if valid is None else valid.flatten()))
        everything = concatenate(parts, flat)
        return self._count(order_by_block(everything, blocks, tiles, layout) if blocks else everything)

    def _token_rows(self, flat: Tensor) -> Tensor:
        tiles = len(self._layout.pixels)
        return self._layout.rows(torch.arange(tiles * self._layout.tile_tokens, device=flat.device))

    def _relevance(self) -> Tensor:
        if self.text_tower is None or not self.questions:
            raise RuntimeError(
                f"{type(self.method).__name__} reads the question: call session.ask([question, ...]), one per prompt"
            )
        assert self._features is not None
        owner = self._layout.images or list(range(len(self._layout.pixels)))
        asked = self._questions_by_image()
        questions = [asked[image] for image in owner]
        self.questions = []  # they must not be used for a later prompt
        with full_precision(self._features.device):
            return self.text_tower.relevance(self._features, questions).flatten()

    def _questions_by_image(self) -> list[str]:
        """Return the question about each image: that of its prompt."""
        assert self.prompts is not None
        left, images = self.adapter.visual_mask(self.prompts).sum(dim=1).tolist(), self._layout.slots_by_image()
        rows, questions = len(left), self.questions
        if rows % len(questions):
            raise ValueError(f"{len(questions)} questions for {rows} prompts: ask one per prompt")
        asked, row = [], 0
        for slots in images:
            while row < rows and left[row] == 0:
                row += 1
            if row == rows or left[row] < slots:
                raise ValueError("the images do not fill the prompts one after the other: no question is known of them")
            left[row] -= slots
            asked.append(questions[row * len(questions) // rows])  # all beams of a prompt have its question
        return asked
