"""FasterVLM: "[CLS] Attention is All You Need for Training-Free Visual Token Pruning" (Zhang et al., 2024)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmprune.methods.base import ScoreMethod, Signals
from vlmprune.methods.tensor_ops import pairwise_mean


@dataclass
class ClsAttention(ScoreMethod):
    """Keeps the patches that the vision encoder's [CLS] token attends to most (section 3.2, equations 4 and 5).

        s_n = mean over heads of softmax(q_[CLS] . K^T / sqrt(d))_n

    in the layer whose output goes to the projector (CLIP-L/14 in LLaVA: layer 22 of 24). Each tile or frame keeps its
    own top k, in raster order; positions are renumbered, as in the authors' code.
    """

    needs: ClassVar = ("cls_attention",)
    paper: ClassVar = "arXiv:2412.01818"

    def score(self, signals: Signals) -> Tensor:
        return pairwise_mean(signals.cls_attention[-1], dim=1)  # [B, H, N] -> [B, N]
