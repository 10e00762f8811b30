"""FastV: "An Image is Worth 1/2 Tokens After Layer 2" (Chen et al., ECCV 2024)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmprune.methods.budget import kept_count
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSignals, DecoderStage
from vlmprune.methods.tensor_ops import pairwise_mean


@dataclass
class FastV(DecoderMethod):
    """Drops, before decoder layer K, the visual tokens that the last prompt token attends to least (section 4.1).

        s_j = mean over heads of softmax(q_last . K^T / sqrt(d))_j   in layer K-1

    The paper's text averages over all queries, the authors' code takes the last one; this follows the code. Kept tokens
    keep their order and their original positions. `ratio` is the share dropped from layer K on (the paper's R).

    k: number of layers that see every token (the paper's K), not scaled to the decoder's depth.
    """

    k: int = 2

    paper: ClassVar = "arXiv:2403.06764"

    def schedule(self, depth: int, n: int) -> list[DecoderStage]:
        if not 1 <= self.k < depth:
            raise ValueError(f"k={self.k} on a decoder of {depth} layers; allowed: 1 to {depth - 1}")
        return [DecoderStage(self.k, kept_count(n, self.ratio, self.keep))]

    def score(self, signals: DecoderSignals) -> Tensor:
        return pairwise_mean(signals.attention[:, :, -1], dim=1)  # [B, H, R, L] -> [B, L]
