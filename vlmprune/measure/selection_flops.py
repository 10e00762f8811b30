"""How many floating-point operations a method costs beside the model's own: the signals it reads, and its products.

Per image before the language model, with T positions of width d in the encoder (n patches, and [CLS]):

    a [CLS] row        2Td  for each layer read          received attention   2TTd for each layer read
    merging r tokens   what the method compares, and 2rrd for the averages, after each layer
    text relevance     the CLIP text tower on one segment of the question, and 2(ndp + np) in the space of width p

Inside it, for L tokens that reach a stage and R positions that rate, with w = heads x head width:

    attention rows     2RLw, and where the method reads its own layer, its q, k and v once more: 2Ld(w + 2e)

To each the method adds its own products (`selection_macs`, `stage_macs`, `rater_macs`). FLOP = 2 multiply-accumulates.
Elementwise work, sorting, distances that are no product and a singular value decomposition count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vlmprune.methods.base import Method, SequenceMethod, Tower
from vlmprune.methods.decoder_base import DecoderMethod
from vlmprune.methods.vision_base import VisionMethod


def acting_parts(method: Method, tower: Tower) -> tuple[Method, ...]:
    """The parts of `method` that the engine runs on this tower; none where everything is kept."""
    n = tower.grid[0] * tower.grid[1]
    return tuple(part for part in method.parts(n) if part.stage != "none" and not part.keeps_all(n))


def encoder_layer(n: int, d: int, m: int) -> float:
    """One layer of a bidirectional encoder over n tokens of width d, with an MLP of width m."""
    return 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d


def attention_widths(text: Any) -> tuple[int, int]:
    """Of a decoder: all query heads together, and all key heads together."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return head * text.num_attention_heads, head * text.num_key_value_heads


def merging_layers(method: VisionMethod, tower: Tower) -> Iterator[tuple[int, int]]:
    """Of each encoder layer up to the feature layer: tokens that it processes, [CLS] among them, and merges after."""
    n = tower.grid[0] * tower.grid[1]
    length = n + int(tower.has_cls)
    for r in method.merge_counts(tower, n):
        yield length, r
        length -= r


def selection_flops(
    config: Any, tower: Tower, method: Method, visual: list[int], words: int, images: int, clip: Any = None
) -> float:
    """FLOPs of selecting for one question; arguments as in `flops.question_flops`."""
    total = 0.0
    for part in acting_parts(method, tower):
        if isinstance(part, SequenceMethod):
            total += images * 2 * _sequence_macs(config, tower, part, visual[0] // max(1, images))
            if "text_relevance" in part.needs:
                total += _relevance(clip, tower.grid[0] * tower.grid[1], images)
        elif isinstance(part, VisionMethod):
            total += images * 2 * _merging_macs(config.vision_config.hidden_size, tower, part)
        elif isinstance(part, DecoderMethod):
            total += 2 * _decoder_macs(config.text_config, part, visual, words)
    return total


def _sequence_macs(config: Any, tower: Tower, method: SequenceMethod, k: int) -> int:
    vision, n = config.vision_config, tower.grid[0] * tower.grid[1]
    positions, width, layers = n + int(tower.has_cls), vision.hidden_size, len(method.layers(tower))
    total = method.selection_macs(n, k, width, config.text_config.hidden_size, width // vision.num_attention_heads)
    if "cls_attention" in method.needs:
        total += layers * positions * width
    if "received_attention" in method.needs:
        total += layers * positions**2 * width
    return total


def _relevance(clip: Any, n: int, images: int) -> float:
    if clip is None:
        raise ValueError("text_relevance is the work of a CLIP text tower: give clip=, its config")
    text, common = clip.text_config, clip.projection_dim
    layer = encoder_layer(text.max_position_embeddings, text.hidden_size, text.intermediate_size)
    patches = images * n * (clip.vision_config.hidden_size * common + common)
    return text.num_hidden_layers * layer + 2 * (text.hidden_size * common + patches)


def _merging_macs(width: int, tower: Tower, method: VisionMethod) -> int:
    total = 0
    for layer, (length, r) in enumerate(merging_layers(method, tower)):
        if r:
            total += method.matching_macs(length, r, layer, width, tower) + r * r * width
    return total


def _decoder_macs(text: Any, method: DecoderMethod, visual: list[int], words: int) -> int:
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
