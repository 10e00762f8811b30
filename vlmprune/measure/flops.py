"""Floating-point operations of one question, from the checkpoint's config and the sequence lengths that ran.

FLOP = 2 multiply-accumulates. Only matrix products count (not norms, softmax, activations, embeddings, interpolation);
causal attention is not halved, because the kernels in use compute or skip whole blocks. Per layer, for n tokens of
width d, MLP width m, query heads of width w together and key heads of width e together:

    encoder      2n(4dd + 2dm) + 4pd           p pairs of tokens that attend: nn, or the sum over windows of theirs
    decoder      2n(2dw + 2de + 3dm) + 4nLw    n new tokens that attend to L

with 3dm where the encoder's MLP is gated. The n of the encoder are those of one tile, frame or image at its own size,
and everything it encodes counts, also what unpadding cuts away later; embedding a patch is one product with its pixels.
The projector, or the merger of 2 x 2 patches, counts the tokens that pass it; DeepStack's mergers are part of vision.
Prefill counts the logits of its last token only, as generate() computes them; so does every decode step. The FLOPs of
selection are in selection_flops.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from vlmprune.measure.encoder import Encoded
from vlmprune.measure.selection_flops import attention_widths, merging_layers, selection_flops
from vlmprune.methods.base import Method, SequenceMethod
from vlmprune.methods.vision_base import VisionMethod
from vlmprune.models.base import Adapter
from vlmprune.pruning.parts import acting_parts


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
    encoded: Encoded,
    visual: list[int],
    words: int,
    generated: int,
    clip: Any = None,
) -> Flops:
    """Return the FLOPs of a question with `words` text tokens, the media in `encoded` and `generated` new tokens.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's media). clip: the
    config of the CLIP whose text tower a method reading text_relevance uses. Raises Uncountable where a number would
    be a guess.
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


def _encoder(adapter: Adapter, method: Method, encoded: Encoded) -> float:
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


def _projected(adapter: Adapter, method: Method, encoded: Encoded, kept: int) -> int:
    """Return the number of rows that the projector gets: the kept ones, or all if selection needs them or is later."""
    for part in acting_parts(method, adapter.tower):
        if isinstance(part, SequenceMethod | VisionMethod):
            early = adapter.projects_each_token and "projected" not in part.needs
            return kept - encoded.newlines if early else encoded.projected
    return encoded.projected
