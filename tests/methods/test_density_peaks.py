"""Merging by density-peaks clustering, also against what SparseVLM's authors' code gave."""

import pytest
import torch

from tests.methods.golden import MERGED, Vectors
from vlmprune.methods.sparsevlm import merge_clusters

UNITS = Vectors("sparsevlm_units")


@pytest.mark.parametrize("case", [name.removesuffix(".x") for name in UNITS.budgets("cm_") if name.endswith(".x")])
def test_merging_is_the_authors(case: str) -> None:
    expected = UNITS[f"cm_{case}.y"]
    _, merged = merge_clusters(UNITS[f"cm_{case}.x"].unsqueeze(0), len(expected))
    torch.testing.assert_close(merged[0], expected, **MERGED)


def test_two_clusters() -> None:
    x = torch.tensor([[[0.0, 0], [9, 9], [0, 1], [9, 8], [1, 0], [8, 8]]])
    centres, merged = merge_clusters(x, 2)
    assert {index % 2 for index in centres[0].tolist()} == {0, 1}
    means = {tuple(mean) for mean in (merged[0] * 3).round().tolist()}
    assert means == {(1, 1), (26, 25)}


def test_equal_tokens() -> None:
    centres, merged = merge_clusters(torch.ones(1, 12, 4), 2)
    assert centres.tolist() == [[0, 1]]
    torch.testing.assert_close(merged, torch.ones(1, 2, 4))  # a centre keeps itself, though it equals another


def test_one_token() -> None:
    centres, merged = merge_clusters(torch.ones(2, 1, 4), 1)
    assert centres.tolist() == [[0], [0]]
    torch.testing.assert_close(merged, torch.ones(2, 1, 4))
