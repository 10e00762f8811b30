"""Floating-point operations of one question, from the checkpoint's config and the lengths that really ran.

FLOP = 2 multiply-accumulates. Only matrix products count (not norms, softmax, activations, embeddings, interpolation);
causal attention is not halved, because the kernels in use compute or skip whole blocks. Per layer, for n tokens of
width d, MLP width m, query heads of width w together and key heads of width e together:

    encoder      2n(4dd + 2dm) + 4pd           p pairs of tokens that attend: nn, or the sum over windows of theirs
    decoder      2n(2dw + 2de + 3dm) + 4nLw    n new tokens that attend to L

with 3dm where the encoder's MLP is gated. The n of the encoder are those of one tile, frame or image at its own size,
and everything it encodes counts, also what unpadding cuts away later; embedding a patch is one product with its pixels.
The projector, or the merger of 2 x 2 patches, counts the tokens that pass it; DeepStack's mergers are part of vision.
Prefill counts the logits of its last token only, as generate() computes them; so does every decode step. The FLOPs of
selection depend on the method and are counted apart.

FLOPs for `flops.convention=fastervlm`, counted as in the tables of FasterVLM's project page.

The page (github.com/Theia-4869/FasterVLM, branch gh-pages, commit 8494094, static/image/efficiency.png: LLaVA-NeXT-7B
on POPE, FastV too) prints eleven figures and no formula, and the code has none. This one was inferred from them and
gives all eleven to the printed digit. FLOP = 2 multiply-accumulates, causal attention not halved, and for layers of
width d and MLP width m

    vision       every encoder layer on the T positions of every tile, [CLS] among them: 2T(4dd + 2dm) + 4TTd
    projector    one product from the encoder's width to the decoder's, for the visual tokens of decoder layer 0
    prefill      every decoder layer on its n visual tokens alone: 2n(4dd + 3dm) + 4nnd

It leaves out the question and the template, decoding, the logits, the embedding of patches, the projector's other
layers and the selection, and it counts encoder layers that nothing reads; flops.py counts the operations that run.
Window attention in an encoder and fewer key heads in a decoder, neither of which LLaVA-NeXT-7B has, count at their real
sizes; a shorter encoder sequence, as merging methods give, is not taken into account.

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
from dataclasses import asdict, dataclass
from typing import Any

from vlmprune.methods.base import Method, SequenceMethod, Tower, Widths, acting_parts
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.models.base import Adapter, EncoderInput, UncountableFlops


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
    adapter: Adapter, method: Method, encoded: EncoderInput, visual: list[int], words: int, clip: Any = None
) -> float:
    """Return the FLOPs of selection for one question; arguments as in `question_flops`."""
    macs = 0
    for part in acting_parts(method, adapter.tower):
        if isinstance(part, SequenceMethod):
            macs += _signal_macs(adapter, part, encoded, clip)
            shares = units_and_kept(method, part, encoded)
            macs += _sequence_macs(adapter, part, shares, visual[0] - encoded.newlines)
        elif isinstance(part, VisionMethod):
            macs += len(encoded.tiles) * _merging_macs(adapter.encoder_sizes.width, adapter.tower, part)
        elif isinstance(part, DecoderMethod):
            macs += _decoder_macs(adapter.config.text_config, part, visual, words)
    return 2.0 * macs


def units_and_kept(method: Method, part: SequenceMethod, encoded: EncoderInput) -> list[tuple[int, int]]:
    """Return the tokens of each unit that `part` of `method` ranks, and the number (if adaptive, the most) it keeps."""
    images = [image if part.scope_rule == "tile" else [sum(image)] for image in encoded.units]
    return [pair for units in images for pair in zip(units, method.shares(units), strict=True)]


def _signal_macs(adapter: Adapter, method: SequenceMethod, encoded: EncoderInput, clip: Any) -> int:
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
        raise UncountableFlops("text_relevance is the work of a CLIP text tower, whose config was not given")
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
        raise UncountableFlops("which positions rate depends on how much of a prompt is tiles, which is not recorded")
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


@dataclass(frozen=True)
class Flops:
    """FLOPs of one question by part."""

    vision: float
    projector: float
    selection: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        return self.vision + self.projector + self.selection + self.prefill + self.decode

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"total": self.total}


def decoder_layer(n: float, length: float, text: Any) -> float:
    """Return the FLOPs of one decoder layer for `n` new tokens that attend to `length` tokens each."""
    d, m = text.hidden_size, text.intermediate_size
    width, shared = attention_widths(text)
    return 2 * n * (2 * d * width + 2 * d * shared + 3 * d * m) + 4 * n * length * width


def logits(text: Any) -> float:
    """Return the FLOPs of the output head for one token."""
    return 2 * text.hidden_size * text.vocab_size


def question_flops(
    adapter: Adapter,
    method: Method,
    encoded: EncoderInput,
    visual: list[int],
    words: int,
    generated: int,
    clip: Any = None,
) -> Flops:
    """Return the FLOPs of a question with `words` text tokens, the media in `encoded` and `generated` new tokens.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's media). clip: the
    config of the CLIP whose text tower a method reading text_relevance uses. Raises UncountableFlops where a number
    would be a guess.
    """
    text = adapter.config.text_config
    lengths = Counter(words + tokens for tokens in visual)  # length -> how many layers
    prefill = decode = logits(text)
    for length, layers in lengths.items():
        prefill += layers * decoder_layer(length, length, text)
        decode += layers * decoder_layer(1, length + generated / 2, text)  # the mean over the steps
    return Flops(
        vision=_encoder(adapter, method, encoded),
        projector=2 * _projected(adapter, method, encoded, visual[0]) * adapter.encoder_sizes.projector_macs,
        selection=selection_flops(adapter, method, encoded, visual, words, clip),
        prefill=prefill,
        decode=max(0, generated - 1) * decode,  # the first new token comes out of the prefill
    )


def _encoder(adapter: Adapter, method: Method, encoded: EncoderInput) -> float:
    """Return the FLOPs of the encoder up to the last layer that the projector or the method reads."""
    sizes, tower = adapter.encoder_sizes, adapter.tower
    last, merging = tower.depth - 1, []
    for part in acting_parts(method, tower):
        if isinstance(part, SequenceMethod):
            last = max(tower.feature_layer, *part.layers(tower))
        elif isinstance(part, VisionMethod):
            merging = [length for length, _ in merging_layers(part, tower)]
    total = 2.0 * encoded.projected * sizes.merger_macs
    for tile, count in Counter(encoded.tiles).items():
        layers = [(n, n**2) for n in merging]
        layers = layers or [(sizes.tokens(tile), sizes.pairs(layer, tile)) for layer in range(last + 1)]
        patches = 2 * tile[0] * tile[1] * sizes.patch_macs
        total += count * (patches + sum(sizes.layer_flops(*layer) for layer in layers))
    return total


def _projected(adapter: Adapter, method: Method, encoded: EncoderInput, kept: int) -> int:
    """Return the number of rows that the projector gets: the kept ones, or all if selection needs them or is later."""
    for part in acting_parts(method, adapter.tower):
        if isinstance(part, SequenceMethod | VisionMethod):
            early = adapter.projects_each_token and "projected" not in part.needs
            return kept - encoded.newlines if early else encoded.projected
    return encoded.projected


def fastervlm_flops(adapter: Adapter, encoded: EncoderInput, visual: list[int]) -> Flops:
    """Return the FLOPs of a question about the media in `encoded`.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's media).
    """
    sizes, text, depth = adapter.encoder_sizes, adapter.config.text_config, adapter.tower.depth
    tile_flops = {
        tile: sum(sizes.layer_flops(sizes.tokens(tile), sizes.pairs(layer, tile)) for layer in range(depth))
        for tile in set(encoded.tiles)
    }
    return Flops(
        vision=sum(count * tile_flops[tile] for tile, count in Counter(encoded.tiles).items()),
        projector=2 * visual[0] * sizes.width * text.hidden_size,
        selection=0,
        prefill=sum(decoder_layer(n, n, text) for n in visual),
        decode=0,
    )
