"""Visual tokens and work of a method's stages on one question, by the kind of stage.

A method's own products are in its class (`selection_macs`, for every unit that it ranks, `matching_macs`, `stage_macs`,
`rater_macs`). What the engine does around them is here, where it is no part of a run's identity. Multiply-accumulates
(MACs) per tile before the language model, with T positions of width d in the encoder (n patches, and [CLS]):

    a [CLS] row        Td  for each layer read          received attention   TTd for each layer read
    merging r tokens   the method's comparisons, and rrd for the averages, after each layer
    text relevance     the CLIP text tower on one segment of the question, and ndp + np in the space of width p

(in layers with window attention TT is the sum over the windows of theirs). Inside the language model, for L tokens that
reach a stage and R positions that rate, with w = heads x head width and e that of the key heads:

    attention rows     RLw, and where the method reads its own layer, its q, k and v once more: Ld(w + 2e)

Where an adaptive method (PruMerge without an amount) keeps different numbers of several images or tiles, the engine
pads the smaller ones to the largest in merging and projector; that padding is not work of the method and is not
counted, which is up to half of the operations of these two parts, and under 1 % of a question's total.
Elementwise operations, sorting, distances that are not products and singular value decompositions are not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from vlmprune.methods.base import Method, SequenceMethod, Widths, acting_parts
from vlmprune.methods.baselines import Pool, pooled_grid
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.models.base import Adapter, EncoderInput, Grid, UncountableFlops


@dataclass(frozen=True)
class StageCost:
    """Costs of one part of a method on one model; by default those of a part that changes nothing.

    whole: the method of which it is a part, and which decides the number of kept tokens.
    """

    adapter: Adapter
    whole: Method
    part: Any

    @property
    def prunes_projector(self) -> bool:
        """True if the projector gets the kept tokens alone."""
        return False

    @property
    def last_layer(self) -> int:
        """Last encoder layer that runs."""
        return self.adapter.tower.depth - 1

    def encoder_layers(self, tile: Grid) -> list[tuple[int, int]]:
        """Return for each encoder layer that runs the positions of a tile, and its pairs that attend."""
        sizes = self.adapter.encoder_sizes
        return [(sizes.tokens(tile), sizes.pairs(layer, tile)) for layer in range(self.last_layer + 1)]

    def visual_by_layer(self, encoded: EncoderInput, visual: list[int]) -> list[int]:
        """Return `visual` as this part leaves it: upper bounds where only the method knows how many it keeps."""
        return visual

    def selection_macs(self, encoded: EncoderInput, visual: list[int], words: int, clip: Any) -> int:
        """Return the MACs of selecting; arguments as in `question_flops`."""
        return 0


class SequenceCost(StageCost):
    """Costs of a selection before the language model."""

    part: SequenceMethod

    @property
    def prunes_projector(self) -> bool:
        return self.adapter.projects_each_token and "projected" not in self.part.needs

    @property
    def last_layer(self) -> int:
        return max(self.adapter.tower.feature_layer, *self.part.layers(self.adapter.tower))

    def shares(self, encoded: EncoderInput) -> list[tuple[int, int]]:
        """Return the tokens of each unit that is ranked together, and the number (if adaptive, the most) kept of it."""
        images = [image if self.part.scope_rule == "tile" else [sum(image)] for image in encoded.units]
        return [pair for units in images for pair in zip(units, self.whole.shares(units), strict=True)]

    def visual_by_layer(self, encoded: EncoderInput, visual: list[int]) -> list[int]:
        return [sum(k for _, k in self.shares(encoded)) + encoded.newlines] * len(visual)

    def selection_macs(self, encoded: EncoderInput, visual: list[int], words: int, clip: Any) -> int:
        sizes = self.adapter.encoder_sizes
        widths = Widths(
            head=sizes.width // sizes.heads,
            keys=sizes.width,
            features=sizes.feature_width,
            projected=self.adapter.config.text_config.hidden_size,
        )
        shares, kept = self.shares(encoded), visual[0] - encoded.newlines
        most = sum(k for _, k in shares)
        if kept < most:  # an adaptive method kept fewer than it may: assume the same share of each unit
            shares = [(n, round(k * kept / most)) for n, k in shares]
        return self._signal_macs(encoded, clip) + sum(self.part.selection_macs(n, k, widths) for n, k in shares)

    def _signal_macs(self, encoded: EncoderInput, clip: Any) -> int:
        sizes, tower, needs = self.adapter.encoder_sizes, self.adapter.tower, self.part.needs
        # Without [CLS] the mean attention that patches receive replaces its row.
        received = ("received_attention" in needs) + ("cls_attention" in needs and not tower.has_cls)
        rows = int("cls_attention" in needs and tower.has_cls)
        total = relevance_macs(clip, encoded.projected) if "text_relevance" in needs else 0
        for layer in self.part.layers(tower):
            for tile, count in Counter(encoded.tiles).items():
                total += count * sizes.width * (rows * sizes.tokens(tile) + received * sizes.pairs(layer, tile))
        return total


class PoolCost(SequenceCost):
    """Costs of `pool`, which keeps as many tokens as its grid has cells: fewer than it may, or as many."""

    def visual_by_layer(self, encoded: EncoderInput, visual: list[int]) -> list[int]:
        kept = encoded.newlines
        for (height, width), (n, k) in zip(encoded.tiles, self.shares(encoded), strict=True):
            side = math.isqrt(height * width // n)  # of the square of patches that becomes one token
            kept += math.prod(pooled_grid(height // side, width // side, k))
        return [kept] * len(visual)


def relevance_macs(clip: Any, patches: int) -> int:
    """Return the MACs of text_relevance of `patches`. Raise UncountableFlops without the CLIP's config."""
    if clip is None:
        raise UncountableFlops("text_relevance is the work of a CLIP text tower, whose config was not given")
    text, common = clip.text_config, clip.projection_dim
    n, d = text.max_position_embeddings, text.hidden_size
    tower = text.num_hidden_layers * (n * (4 * d * d + 2 * d * text.intermediate_size) + 2 * n * n * d)
    return tower + d * common + patches * (clip.vision_config.hidden_size * common + common)


class VisionCost(StageCost):
    """Costs of merging inside the vision encoder."""

    part: VisionMethod

    @property
    def prunes_projector(self) -> bool:
        return self.adapter.projects_each_token

    def encoder_layers(self, tile: Grid) -> list[tuple[int, int]]:
        return [(length, length**2) for length, _ in self._merges()]

    def visual_by_layer(self, encoded: EncoderInput, visual: list[int]) -> list[int]:
        return [sum(map(self._left, encoded.unit_sizes("tile"))) + encoded.newlines] * len(visual)

    def selection_macs(self, encoded: EncoderInput, visual: list[int], words: int, clip: Any) -> int:
        width, tower = self.adapter.encoder_sizes.width, self.adapter.tower
        return len(encoded.tiles) * sum(
            self.part.matching_macs(length, r, layer, width, tower) + r * r * width
            for layer, (length, r) in enumerate(self._merges())
            if r
        )

    def _left(self, n: int) -> int:
        if self.part.layer_ratio is None and not self.part.count(n):
            return 0
        return n - sum(self.part.merge_counts(self.adapter.tower, n))

    def _merges(self) -> list[tuple[int, int]]:
        """Return for each encoder layer that runs its tokens, with [CLS], and the number merged after it."""
        tower = self.adapter.tower
        n = tower.grid[0] * tower.grid[1]
        counts = self.part.merge_counts(tower, n)
        return [(n + int(tower.has_cls) - sum(counts[:layer]), r) for layer, r in enumerate(counts)]


class DecoderCost(StageCost):
    """Costs of selections inside the language model."""

    part: DecoderMethod

    def visual_by_layer(self, encoded: EncoderInput, visual: list[int]) -> list[int]:
        visual, depth = list(visual), len(visual)
        for stage in self.part.stages(depth, visual[0]) if visual[0] else ():
            first = 0 if self.part.restarts else stage.layer
            visual[first:] = [stage.left] * (depth - first)
        return visual

    def selection_macs(self, encoded: EncoderInput, visual: list[int], words: int, clip: Any) -> int:
        method, text = self.part, self.adapter.config.text_config
        if "tiles" in method.needs:
            raise UncountableFlops(
                "the number of positions that rate depends on how much of a prompt is tiles, which is not recorded"
            )
        width, shared = attention_widths(text)
        raters, head = method.rater_count(words), width // text.num_attention_heads
        total = method.rater_macs(words + visual[0], text.hidden_size)
        for stage in method.stages(len(visual), max(1, visual[0])):
            length = words + visual[stage.layer - 1]
            total += raters * length * width + method.stage_macs(stage, length, raters, text.hidden_size, head)
            if method.reads == "own":
                total += length * text.hidden_size * (width + 2 * shared)
        return total


def attention_widths(text: Any) -> tuple[int, int]:
    """Return the widths of all query heads together and of all key heads together of a decoder."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return head * text.num_attention_heads, head * text.num_key_value_heads


COSTS = {"sequence": SequenceCost, "vision": VisionCost, "decoder": DecoderCost}


def stage_costs(adapter: Adapter, method: Method) -> list[StageCost]:
    """Return the costs of each acting part of a method, in their order; of one that changes nothing if none acts."""
    parts = acting_parts(method, adapter.tower)
    costs = [PoolCost if isinstance(part, Pool) else COSTS[part.stage] for part in parts]
    return [cost(adapter, method, part) for cost, part in zip(costs, parts, strict=True)] or [
        StageCost(adapter, method, method)
    ]


def visual_by_layer(adapter: Adapter, method: Method, encoded: EncoderInput) -> list[int]:
    """Return the visual tokens that each decoder layer would process: upper bounds if only the method knows them."""
    visual = [encoded.slots] * adapter.decoder_depth
    for cost in stage_costs(adapter, method):
        visual = cost.visual_by_layer(encoded, visual)
    return visual
