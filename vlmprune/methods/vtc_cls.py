"""VTC-CLS: "[CLS] Token Tells Everything Needed for Training-free Efficient MLLMs" (Wang et al., 2024)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmprune.methods.base import ScoreMethod, Signals, Tower
from vlmprune.methods.budget import same_relative_depth
from vlmprune.methods.tensor_ops import pairwise_mean, pairwise_sum

PUBLISHED_DEPTH = 24  # CLIP-L/14


@dataclass
class VtcCls(ScoreMethod):
    """Keeps the patches that [CLS] attends to most, summed over the upper layers of the vision encoder.

        s_n = sum over layers start..end of mean over heads of softmax(q_[CLS] . K^T / sqrt(d))_n

    With start = end = the feature layer this is FasterVLM (`cls`). Layer numbers are 0-based and published
    for 24 layers; at another depth they mean the same relative depth, which may be a single layer in a shallow
    encoder (16 of 24 is 3 of 5, the feature layer itself). The start used for the paper's table is not recorded;
    16 is the code's default. The authors' code takes one image at a time; here every image, tile or frame of a
    batch is ranked separately.

    start_layer: first layer of the sum.
    end_layer: last layer of the sum; None: the layer whose output goes to the projector (22 of 24).
    """

    start_layer: int = 16
    end_layer: int | None = None

    needs: ClassVar = ("cls_attention",)
    paper: ClassVar = "arXiv:2412.05819"

    def layers(self, tower: Tower) -> tuple[int, ...]:
        start = same_relative_depth(self.start_layer, PUBLISHED_DEPTH, tower.depth)
        end = tower.feature_layer
        if self.end_layer is not None:
            end = same_relative_depth(self.end_layer, PUBLISHED_DEPTH, tower.depth)
        if self.start_layer < 0 or not start <= end < tower.depth:
            raise ValueError(
                f"start_layer={self.start_layer}, end_layer={self.end_layer} (of {PUBLISHED_DEPTH}) "
                f"are layers {start} to {end} here; allowed: 0 <= start <= end <= {tower.depth - 1}"
            )
        return tuple(range(start, end + 1))

    def score(self, signals: Signals) -> Tensor:
        return pairwise_sum(pairwise_mean(signals.cls_attention, dim=2), dim=0)  # [layers, B, H, N] -> [B, N]
