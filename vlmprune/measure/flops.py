"""How many floating-point operations one question costs, from the checkpoint's config and the lengths that really ran.

FLOP = 2 multiply-accumulates. Matrix products only (norms, softmax, activations, embeddings count nothing); causal
attention is not halved, because the kernels in use compute or skip whole blocks. Per layer, for n tokens of width d,
MLP width m, query heads of width w together and key heads of width e together:

    encoder      2n(4dd + 2dm) + 4nnd
    decoder      2n(2dw + 2de + 3dm) + 4nLw        n new tokens that attend to L

Prefill counts the logits of its last token only, as generate() asks for them; so does every decode step. What a method
adds is in selection_flops.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vlmprune.measure.selection_flops import (
    acting_parts,
    attention_widths,
    encoder_layer,
    merging_layers,
    selection_flops,
)
from vlmprune.methods.base import Method, SequenceMethod, Tower
from vlmprune.methods.vision_base import VisionMethod


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
    """One decoder layer: `n` new tokens that attend to `length` tokens each."""
    d, m = text.hidden_size, text.intermediate_size
    width, shared = attention_widths(text)
    return 2 * n * (2 * d * width + 2 * d * shared + 3 * d * m) + 4 * n * length * width


def logits(text: Any) -> float:
    """The output head for one token."""
    return 2 * text.hidden_size * text.vocab_size


def question_flops(
    config: Any,
    tower: Tower,
    method: Method,
    visual: list[int],
    words: int,
    generated: int,
    images: int = 1,
    clip: Any = None,
) -> Flops:
    """FLOPs of a question with `images` images, `words` text tokens and `generated` new tokens.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's images). clip: the
    config of the CLIP that a method reading text_relevance takes its text tower from; without it, ValueError.
    """
    text = config.text_config
    lengths = [words + tokens for tokens in visual]
    prefill = logits(text) + sum(decoder_layer(length, length, text) for length in lengths)
    decode = 0.0
    for step in range(1, generated):  # the first new token comes out of the prefill
        decode += sum(decoder_layer(1, length + step, text) for length in lengths) + logits(text)
    return Flops(
        vision=images * _encoder(config.vision_config, tower, method),
        projector=_projector(config, tower, method, visual[0], images),
        selection=selection_flops(config, tower, method, visual, words, images, clip),
        prefill=prefill,
        decode=decode,
    )


def _encoder(vision: Any, tower: Tower, method: Method) -> float:
    """One image, up to the last layer that the projector or the method reads; all layers where nothing is skipped."""
    n = tower.grid[0] * tower.grid[1]
    lengths = [n + int(tower.has_cls)] * tower.depth
    for part in acting_parts(method, tower):
        if isinstance(part, SequenceMethod):
            lengths = lengths[: max(tower.feature_layer, *part.layers(tower)) + 1]
        elif isinstance(part, VisionMethod):
            lengths = [length for length, _ in merging_layers(part, tower)]
    patches = 2 * n * vision.num_channels * vision.patch_size**2 * vision.hidden_size
    return patches + sum(encoder_layer(length, vision.hidden_size, vision.intermediate_size) for length in lengths)


def _projector(config: Any, tower: Tower, method: Method, kept: int, images: int) -> float:
    """Kept tokens only, but all of them where the method reads their projections or selects later."""
    tokens = images * tower.grid[0] * tower.grid[1]
    for part in acting_parts(method, tower):
        if isinstance(part, SequenceMethod | VisionMethod) and "projected" not in part.needs:
            tokens = kept
    width = config.text_config.hidden_size
    return 2 * tokens * (config.vision_config.hidden_size * width + width**2)
