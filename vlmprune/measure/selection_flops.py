"""Floating-point operations of a method beside those of the model: the signals it reads, and its products.

Per tile before the language model, with T positions of width d in the encoder (n patches, and [CLS]):

    a [CLS] row        2Td  for each layer read          received attention   2TTd for each layer read
    merging r tokens   the method's comparisons, and 2rrd for the averages, after each layer
    text relevance     the CLIP text tower on one segment of the question, and 2(ndp + np) in the space of width p

(in layers with window attention TT is the sum over the windows of theirs). Inside the language model, for L tokens that
reach a stage and R positions that rate, with w = heads x head width:

    attention rows     2RLw, and where the method reads its own layer, its q, k and v once more: 2Ld(w + 2e)

The method's own products are added (`selection_macs`, for every unit that it ranks, `stage_macs`, `rater_macs`).
Where an adaptive method (PruMerge without an amount) keeps different numbers of several images or tiles, the engine
pads the smaller ones to the largest in merging and projector; that padding is not work of the method and is not
counted, which is up to half of the operations of these two parts, and under 1 % of a question's total.
FLOP = 2 multiply-accumulates. Elementwise operations, sorting, distances that are not products and singular value
decompositions are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from vlmprune.measure.encoder import Encoded, Uncountable
from vlmprune.methods.base import Method, SequenceMethod, Tower, Widths
from vlmprune.methods.decoder_base import DecoderMethod
from vlmprune.methods.vision_base import VisionMethod
from vlmprune.models.base import Adapter
from vlmprune.pruning.parts import acting_parts


def attention_widths(text: Any) -> tuple[int, int]:
    """Return the widths of all query heads together and of all key heads together of a decoder."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return head * text.num_attention_heads, head * text.num_key_value_heads


def merging_layers(method: VisionMethod, tower: Tower) -> Iterator[tuple[int, int]]:
    """Yield for each encoder layer up to the feature layer its tokens, with [CLS], and the number merged after it."""
    n = tower.grid[0] * tower.grid[1]
    length = n + int(tower.has_cls)
    for r in method.merge_counts(tower, n):
        yield length, r
        length -= r


def selection_flops(
    adapter: Adapter, method: Method, encoded: Encoded, visual: list[int], words: int, clip: Any = None
) -> float:
    """Return the FLOPs of selection for one question; arguments as in `flops.question_flops`."""
    macs = 0
    for part in acting_parts(method, adapter.tower):
        if isinstance(part, SequenceMethod):
            macs += _signal_macs(adapter, part, encoded, clip)
            shares = kept_of_units(method, part, encoded)
            macs += _sequence_macs(adapter, part, shares, visual[0] - encoded.newlines)
        elif isinstance(part, VisionMethod):
            macs += len(encoded.tiles) * _merging_macs(adapter.encoder_sizes.width, adapter.tower, part)
        elif isinstance(part, DecoderMethod):
            macs += _decoder_macs(adapter.config.text_config, part, visual, words)
    return 2.0 * macs


def kept_of_units(method: Method, part: SequenceMethod, encoded: Encoded) -> list[tuple[int, int]]:
    """Return the tokens of each unit that `part` of `method` ranks, and the number (if adaptive, the most) it keeps."""
    images = [image if part.scope_rule == "tile" else [sum(image)] for image in encoded.units]
    return [pair for units in images for pair in zip(units, method.shares(units), strict=True)]


def _signal_macs(adapter: Adapter, method: SequenceMethod, encoded: Encoded, clip: Any) -> int:
    sizes, tower = adapter.encoder_sizes, adapter.tower
    # Without [CLS] the mean attention that patches receive replaces its row.
    received = ("received_attention" in method.needs) + ("cls_attention" in method.needs and not tower.has_cls)
    rows = int("cls_attention" in method.needs and tower.has_cls)
    total = 0
    for layer in method.layers(tower):
        for tile, count in Counter(encoded.tiles).items():
            total += count * sizes.width * (rows * sizes.tokens(tile) + received * sizes.pairs(layer, tile))
    return total + (_relevance_macs(clip, encoded.projected) if "text_relevance" in method.needs else 0)


def _sequence_macs(adapter: Adapter, method: SequenceMethod, shares: list[tuple[int, int]], kept: int) -> int:
    sizes = adapter.encoder_sizes
    head, projected = sizes.width // sizes.heads, adapter.config.text_config.hidden_size
    widths = Widths(head, sizes.width, sizes.feature_width, projected)
    most = sum(k for _, k in shares)
    if kept < most:  # an adaptive method kept fewer than it may: assume the same share of each unit
        shares = [(n, round(k * kept / most)) for n, k in shares]
    return sum(method.selection_macs(n, k, widths) for n, k in shares)


def _relevance_macs(clip: Any, patches: int) -> int:
    if clip is None:
        raise Uncountable("text_relevance is the work of a CLIP text tower, whose config was not given")
    text, common = clip.text_config, clip.projection_dim
    n, d = text.max_position_embeddings, text.hidden_size
    tower = text.num_hidden_layers * (n * (4 * d * d + 2 * d * text.intermediate_size) + 2 * n * n * d)
    return tower + d * common + patches * (clip.vision_config.hidden_size * common + common)


def _merging_macs(width: int, tower: Tower, method: VisionMethod) -> int:
    total = 0
    for layer, (length, r) in enumerate(merging_layers(method, tower)):
        if r:
            total += method.matching_macs(length, r, layer, width, tower) + r * r * width
    return total


def _decoder_macs(text: Any, method: DecoderMethod, visual: list[int], words: int) -> int:
    if "tiles" in method.needs:
        raise Uncountable("which positions rate depends on how much of a prompt is tiles, which is not recorded")
    width, shared = attention_widths(text)
    stages = method.stages(len(visual), max(1, visual[0]))
    lengths = [words + visual[stage.layer - 1] for stage in stages]
    raters = method.rater_count(words)
    head = width // text.num_attention_heads
    total = method.rater_macs(words + visual[0], text.hidden_size)
    for stage, length in zip(stages, lengths, strict=True):
        total += raters * length * width + method.stage_macs(stage, length, raters, text.hidden_size, head)
        if method.reads == "own":
            total += length * text.hidden_size * (width + 2 * shared)
    return total
