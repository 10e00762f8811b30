"""PyramidDrop: "Accelerating Your Large Vision-Language Models via Pyramid Visual Redundancy Reduction"
(Xing et al., CVPR 2025)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmprune.methods.base import is_changed
from vlmprune.methods.budget import equal_factors, is_increasing, kept_count, relative_layers
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSignals, DecoderStage
from vlmprune.methods.tensor_ops import pairwise_mean


@dataclass
class PyramidDrop(DecoderMethod):
    """Drops visual tokens before several decoder layers, by the attention of the last prompt token.

        s_j = mean over heads of softmax(q_last . K^T / sqrt(d))_j   in layer r, on its own input

    Stages end before layers 8, 16 and 24 of 32; they keep 0.5, 0.25 and 0.125 of the initial N, rounded down
    (lambda = 0.5). Kept tokens keep their order; positions are renumbered from the dropping layer on.

    With `ratio`, the share dropped at the end, or `keep`, the number k kept at the end, N is reduced to k in equal
    factors, N (k/N)^(1/3), N (k/N)^(2/3), k, rounded half up: ratio 0.875 of 576 is the published 288, 144,
    72. With neither, the published schedule runs.

    Layer numbers refer to a decoder of `published_depth` and mean the same relative depth on another. The
    authors use 8, 16, 24 on 40 layers too (13B): published_depth=40 gives that. Their code ranks the first
    image of a sample only and runs on right-padded batches with FlashAttention only; here all visual tokens
    of a sample are ranked together.

    layer_list: layers before which tokens are dropped.
    image_token_ratio_list: fractions of N kept from each of them on, if neither ratio nor keep is given.
    published_depth: number of decoder layers that layer_list refers to.
    """

    layer_list: Sequence[int] = (8, 16, 24)
    image_token_ratio_list: Sequence[float] = (0.5, 0.25, 0.125)
    published_depth: int = 32

    reads: ClassVar = "own"
    published_positions: ClassVar = "renumber"
    paper: ClassVar = "arXiv:2410.17247"

    def __post_init__(self) -> None:
        if not self.layer_list or not is_increasing([0, *self.layer_list, self.published_depth]):
            raise ValueError(
                f"layer_list={list(self.layer_list)}; allowed: one or more ascending layers of 1 to "
                f"{self.published_depth - 1} (published_depth={self.published_depth})"
            )
        if self.ratio is not None or self.keep is not None or self.budget != "published":
            if is_changed(self, "image_token_ratio_list"):
                raise ValueError(
                    f"image_token_ratio_list={list(self.image_token_ratio_list)} is what runs "
                    "without an amount; leave it out, or ratio=, keep= and budget=average"
                )
            return
        fractions = [1.0, *self.image_token_ratio_list, 0.0]
        if any(after > before for before, after in itertools.pairwise(fractions)):
            raise ValueError(
                f"image_token_ratio_list={list(self.image_token_ratio_list)}; allowed: falling fractions of 1 to 0"
            )
        if len(self.image_token_ratio_list) != len(self.layer_list):
            raise ValueError(
                f"image_token_ratio_list={list(self.image_token_ratio_list)}; allowed: one "
                f"fraction for each of the {len(self.layer_list)} layers of layer_list"
            )

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        layers = relative_layers(self.layer_list, self.published_depth, depth)
        if self.ratio is None and self.keep is None:
            kept = [int(n * fraction) for fraction in self.image_token_ratio_list]
        else:
            kept = equal_factors(n, kept_count(n, self.ratio, self.keep), len(layers))
        return [DecoderStage(layer, count) for layer, count in zip(layers, kept, strict=True)]

    def score(self, signals: DecoderSignals) -> Tensor:
        return pairwise_mean(signals.attention[:, :, -1], dim=1)  # [B, H, R, L] -> [B, L]
