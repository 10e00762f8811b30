"""How many floating-point operations one question costs, from the checkpoint's config and the lengths that really ran.

FLOP = 2 multiply-accumulates. Matrix products only (norms, softmax, activations, embeddings count nothing); causal
attention is not halved, because the kernels in use compute or skip whole blocks. Per layer, for n tokens of width d,
key/value width e and MLP width m:

    encoder      2n(4dd + 2dm) + 4nnd
    decoder      2n(2dd + 2de + 3dm) + 4nLd        n new tokens that attend to L

Prefill counts the logits of its last token only, as generate() asks for them; so does every decode step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vlmprune.methods.base import Method, Tower


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


def encoder_layer(n: int, d: int, m: int) -> float:
    """One layer of a bidirectional encoder over n tokens."""
    return 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d


def decoder_layer(n: float, length: float, text: Any) -> float:
    """One decoder layer: `n` new tokens that attend to `length` tokens each."""
    d, m = text.hidden_size, text.intermediate_size
    width = (getattr(text, "head_dim", None) or d // text.num_attention_heads) * text.num_attention_heads
    shared = width * text.num_key_value_heads // text.num_attention_heads
    return 2 * n * (2 * d * width + 2 * d * shared + 3 * d * m) + 4 * n * length * width


def question_flops(
    config: Any, tower: Tower, method: Method, visual: list[int], words: int, generated: int, images: int = 1
) -> Flops:
    """FLOPs of a question with `images` images, `words` text tokens and `generated` new tokens.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's images).
    """
    vision, text = config.vision_config, config.text_config
    lengths = [words + tokens for tokens in visual]
    n = tower.grid[0] * tower.grid[1]
    positions = n + int(tower.has_cls)
    early = method.stage in ("vision", "sequence") and not method.keeps_all(n)
    layers = max(tower.feature_layer, *method.layers(tower)) + 1 if early else tower.depth  # type: ignore[attr-defined]
    vision_lengths = [positions] * layers
    if early and method.stage == "vision":
        vision_lengths = merged_lengths(method, tower)
    encoder: float = 2 * n * vision.num_channels * vision.patch_size**2 * vision.hidden_size
    encoder += sum(encoder_layer(length, vision.hidden_size, vision.intermediate_size) for length in vision_lengths)

    projected = visual[0] if early and "projected" not in method.needs else images * n
    projector = 2 * projected * (vision.hidden_size * text.hidden_size + text.hidden_size**2)

    prefill = logits(text) + sum(decoder_layer(length, length, text) for length in lengths)
    decode = 0.0
    for step in range(1, generated):  # the first new token comes out of the prefill
        decode += sum(decoder_layer(1, length + step, text) for length in lengths) + logits(text)
    return Flops(
        vision=images * encoder,
        projector=projector,
        selection=selection_flops(config, tower, method, visual, words, images),
        prefill=prefill,
        decode=decode,
    )


def merged_lengths(method: Method, tower: Tower) -> list[int]:
    """Tokens, [CLS] among them, that each encoder layer up to the feature layer processes while `method` merges."""
    n = tower.grid[0] * tower.grid[1]
    counts = method.merge_counts(tower, n)  # type: ignore[attr-defined]
    return [n + int(tower.has_cls) - sum(counts[:layer]) for layer in range(len(counts))]


def logits(text: Any) -> float:
    """The output head for one token."""
    return 2 * text.hidden_size * text.vocab_size


def selection_flops(config: Any, tower: Tower, method: Method, visual: list[int], words: int, images: int) -> float:
    """Products that a method computes beside the model's own: attention rows, and its own matrix products."""
    n = tower.grid[0] * tower.grid[1]
    if method.stage == "none" or method.keeps_all(n):
        return 0.0
    positions, width = n + int(tower.has_cls), config.vision_config.hidden_size
    total = 0.0
    if method.stage == "sequence":
        layers = len(method.layers(tower))  # type: ignore[attr-defined]
        if "cls_attention" in method.needs:
            total += images * layers * 2 * positions * width
        if "received_attention" in method.needs:
            total += images * layers * 2 * positions**2 * width
        decoder_width = config.text_config.hidden_size
        total += images * 2 * method.selection_macs(n, visual[0] // images, width, decoder_width)
    if method.stage == "vision":
        counts = method.merge_counts(tower, n)  # type: ignore[attr-defined]
        for layer, (length, r) in enumerate(zip(merged_lengths(method, tower), counts, strict=True)):
            if r:
                macs = method.matching_macs(length, r, layer, width, tower)  # type: ignore[attr-defined]
                total += images * 2 * (macs + r * (length - r) * width)  # matching and merging
    if method.stage == "decoder":
        stages = method.stages(len(visual), n)  # type: ignore[attr-defined]
        # One query row against the keys of the layer; a method that reads its own layer projects q, k and v again.
        text = config.text_config
        for stage in stages:
            seen = words + visual[stage.layer - 1]
            total += 2 * seen * text.hidden_size
            if method.reads == "own":  # type: ignore[attr-defined]
                head = text.hidden_size // text.num_attention_heads
                total += 2 * seen * text.hidden_size * (text.hidden_size + 2 * head * text.num_key_value_heads)
    return total
