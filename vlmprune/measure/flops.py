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
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from vlmprune.measure.stage_costs import StageCost, attention_widths, stage_costs
from vlmprune.methods.base import Method
from vlmprune.models.base import Adapter, EncoderInput


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
    stages = stage_costs(adapter, method)
    first = stages[0]  # the only one that may act before the language model
    projected = visual[0] - encoded.newlines if first.prunes_projector else encoded.projected
    return Flops(
        vision=_encoder(first, encoded),
        projector=2 * projected * adapter.encoder_sizes.projector_macs,
        selection=2.0 * sum(stage.selection_macs(encoded, visual, words, clip) for stage in stages),
        prefill=prefill,
        decode=max(0, generated - 1) * decode,  # the first new token comes out of the prefill
    )


def _encoder(stage: StageCost, encoded: EncoderInput) -> float:
    """Return the FLOPs of the encoder up to the last layer that the projector or the method reads."""
    sizes = stage.adapter.encoder_sizes
    total = 2.0 * encoded.projected * sizes.merger_macs
    for tile, count in Counter(encoded.tiles).items():
        patches = 2 * tile[0] * tile[1] * sizes.patch_macs
        total += count * (patches + sum(sizes.layer_flops(*layer) for layer in stage.encoder_layers(tile)))
    return total


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
