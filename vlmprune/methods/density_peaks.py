"""Merging by density-peaks clustering (Rodriguez and Laio, Science 2014) with kNN densities (Du et al., 2016)."""

import math

import torch
from torch import Tensor

from vlmprune.methods.reductions import pairwise_mean
from vlmprune.methods.similarity import at_least_float32


def merge_clusters(x: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Cluster the q tokens of every row of x [B, q, C] and add up each cluster.

        d_ij    = |x_i - x_j| / sqrt(C)
        rho_i   = exp(-mean of the `clusters` smallest d_ij^2, including j = i)
        delta_i = min of d_ij over the j of larger rho; for the densest, the largest d of the row
        centres = the largest rho_i delta_i; each other token goes to the nearest centre
        merged  = sum of a cluster / (its size + 1e-6)

    The authors' random 1e-6 on rho is left out: of two tokens of equal density neither is denser, so that two densest
    ones (with two clusters, any mutual neighbours have equal density) both become centres. Of equal products, and of
    equally near centres, the first is taken.

    Returns the centres, int64 [B, clusters] by descending product, and the merged tokens [B, clusters, C].
    """
    wide = at_least_float32(x)
    # The faster way by a matrix product gives equal tokens a distance above 0, and close long ones a wrong one.
    distance = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(x.shape[2])
    nearest = distance.topk(clusters, dim=2, largest=False).values
    rho = (-pairwise_mean(nearest.square(), dim=2)).exp()

    denser = rho.unsqueeze(1) > rho.unsqueeze(2)  # [B, i, j]: j is denser than i
    to_denser = distance.masked_fill(~denser, math.inf).amin(dim=2)
    delta = torch.minimum(to_denser, distance.amax(dim=(1, 2)).unsqueeze(1))  # `to_denser` is inf if none is denser

    centres = (rho * delta).sort(dim=1, descending=True, stable=True).indices[:, :clusters]
    to_centre = distance.gather(1, centres.unsqueeze(2).expand(-1, -1, x.shape[1]))  # [B, clusters, q]
    to_centre.scatter_(2, centres.unsqueeze(2), -1)  # a centre belongs to its own cluster, even if another one is equal
    cluster = to_centre.argmin(dim=1)
    member = torch.nn.functional.one_hot(cluster, clusters).to(wide.dtype)  # [B, q, clusters]
    merged = (member.mT @ wide) / (member.sum(dim=1).unsqueeze(2) + 1e-6)
    return centres, merged.to(x.dtype)
