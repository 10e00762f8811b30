"""CDPruner: "Beyond Attention or Similarity: Maximizing Conditional Diversity for Token Pruning in MLLMs"
(Zhang et al., NeurIPS 2025)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmprune.methods.base import Selection, SequenceMethod, Signals, Tower, Widths
from vlmprune.methods.tensor_ops import at_least_float32, products, unit

NEGLIGIBLE = (
    64  # a residual of at most this many float roundings of the token's diagonal entry in the kernel counts as zero
)


@dataclass
class CDPruner(SequenceMethod):
    """Keeps tokens that are relevant to the question and differ: greedy MAP of a determinantal point process (DPP).

        r_i  = max_j s_j - s_i + 1e-6                    s = cosine of patch and question in CLIP space
        L_ij = r_i cos(v_i, v_j) r_j                     v = the projector's outputs
        next = argmax_i  det L of the selected and i     until k are selected (`map_dpp`)

    Kept tokens stay in raster order. As published, relevance is the *negated* cosine. The authors also divide r by
    max s - min s; that is left out, since one factor per image changes no choice and is 0 / 0 where all patches are
    equally relevant. The maximum is over all tiles of an image, as in their code, for every scope and batch. Their
    Cholesky recurrence fails once no token adds volume (fewer different tokens than k): it gives NaN and keeps fewer.

    clip: folder or hub name of the CLIP checkpoint whose vision encoder the model uses, for its text tower, such as
    openai/clip-vit-large-patch14-336.
    """

    clip: str | None = None

    needs: ClassVar = ("projected", "text_relevance")
    paper: ClassVar = "arXiv:2506.10967"

    def check(self, tower: Tower, depth: int) -> None:
        super().check(tower, depth)
        if self.clip is None:
            raise ValueError(
                "compares patches with the question in CLIP space, and the model's checkpoint carries no text tower: "
                "name its CLIP with method.clip=openai/clip-vit-large-patch14-336 (or a folder)"
            )

    def selection_macs(self, n: int, k: int, widths: Widths) -> int:
        return n * n * widths.projected + n * k * (k - 1) // 2  # one Gram matrix, and the recurrence of map_dpp

    def select(self, signals: Signals, k: int) -> Selection:
        similarity = at_least_float32(signals.text_relevance)
        largest = signals.largest_relevance
        if largest is None:  # outside the engine: each row is a whole image
            largest = similarity.amax(dim=1, keepdim=True)
        relevance = at_least_float32(largest) - similarity + 1e-6
        x = unit(signals.projected)  # [B, N, D]
        kernel = relevance.unsqueeze(2) * products(x, x) * relevance.unsqueeze(1)
        return Selection(map_dpp(kernel, k).sort(dim=1).values)


def map_dpp(kernel: Tensor, k: int) -> Tensor:
    """Return the `k` tokens [B, k] that greedily maximise the determinant of their part of `kernel`, in that order.

    kernel: [B, N, N] positive semidefinite. Fast greedy MAP (Chen et al., NeurIPS 2018): row t of `basis` is row t of
    the Cholesky factor of the selected tokens, for all tokens, so that the gain of a token is its `residual` =
    L_ii - sum over t of basis_ti^2. O(k^2 N) for every image.
    Of equal residuals the lowest index is taken. Tokens that add nothing (duplicates of selected ones, or all once
    the rank is reached) come last, by descending diagonal entry.
    """
    images, n, _ = kernel.shape
    image = torch.arange(images, device=kernel.device)
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    rounding = torch.finfo(kernel.dtype)
    negligible = NEGLIGIBLE * rounding.eps * diagonal
    last = -1 / diagonal.clamp(min=rounding.tiny)  # below every residual, and in the diagonal's order
    residual = diagonal.clone()
    basis = kernel.new_zeros(images, k, n)
    selected = torch.empty(images, k, dtype=torch.long, device=kernel.device)
    for step in range(k):
        gain, pick = torch.where(residual > negligible, residual, last).max(dim=1)
        selected[:, step] = pick
        new, known = kernel[image, pick].unsqueeze(1), basis[image, :step, pick].unsqueeze(1)
        row = torch.baddbmm(new, known, basis[:, :step], alpha=-1).squeeze(1)  # [B, N]: new - known @ basis
        # The gain is negative only where no remaining token adds anything.
        row *= gain.abs().rsqrt().unsqueeze(1)
        basis[:, step] = row
        residual.addcmul_(row, row, value=-1)
        residual[image, pick] = last[image, pick] = -torch.inf  # excluded from all later steps
    return selected
