"""VisPruner's rounds against the authors' index arithmetic, for every small number of remaining and of diverse tokens.

Theirs, restated: rest[:, 0::2][arange(1)[:, None].expand(-1, R // 2 - r), order[:, r:]] is what a round leaves of A.
torch reads an expansion to -1 as "as it is", broadcasts one row over two, and one over none; else it fails.
"""

import torch
from torch import Tensor

from vlmprune.methods.vispruner import drop_duplicates

LARGEST = 48


def authors(rest: Tensor, similarity: Tensor, count: int) -> list[int] | None:
    """Tokens that their rounds leave of `rest` [1, R]; None where they fail."""
    while count > 0 and (dropped := min(8, rest.shape[1] - count)) > 0:
        a, b = rest[:, 0::2], rest[:, 1::2]
        order = similarity[0][a[0]][:, b[0]].amax(dim=1).argsort(descending=True)[None, dropped:]
        try:
            row = torch.arange(1).unsqueeze(1).expand(-1, rest.shape[1] // 2 - dropped)
            rest = torch.cat([a[row, order], b], dim=1)
        except (RuntimeError, IndexError):
            return None
    return rest[0].tolist()


def rounds() -> dict[tuple[int, int], tuple[list[int] | None, list[int]]]:
    """(remaining, diverse) -> what they keep and what we keep."""
    found = {}
    for remaining in range(2, LARGEST + 1):
        generator = torch.Generator().manual_seed(remaining)
        x = torch.nn.functional.normalize(torch.randn(1, remaining, 8, generator=generator).double(), dim=2)
        tokens = torch.arange(remaining)[None]
        for diverse in range(1, remaining):
            ours = drop_duplicates(tokens, x @ x.mT, diverse)[0].tolist()
            found[remaining, diverse] = authors(tokens, x @ x.mT, diverse), ours
    return found


def test_the_same_wherever_theirs_keeps_as_many_as_asked() -> None:
    found = rounds()
    both = {pair: kept for pair, kept in found.items() if kept[0] is not None and len(kept[0]) == pair[1]}
    assert len(both) == 532
    assert {(17, diverse) for diverse in range(3, 9)} <= set(both)
    assert all(theirs == ours for theirs, ours in both.values())


def test_where_theirs_keeps_one_too_few() -> None:
    fewer = {pair for pair, (theirs, _) in rounds().items() if theirs is not None and len(theirs) != pair[1]}
    at_once = {(2 * diverse - 1, diverse) for diverse in range(2, 10)}
    later = {(6, 2), (15, 4), (19, 6)} | {(remaining, 4) for remaining in range(14, LARGEST + 1, 8)}
    assert fewer == at_once | later
    assert all(len(theirs) == pair[1] - 1 for pair, (theirs, _) in rounds().items() if pair in fewer)
