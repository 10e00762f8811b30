"""Mini-Monkey's SCM against its recorded outputs, and where ours differs from its off-by-one."""

from __future__ import annotations

import pytest
import torch

from tests.methods.golden import Vectors
from tests.methods.synthetic import decoder_signals
from vlmprune.methods.decoder_method import DecoderStage
from vlmprune.methods.scm import ScaleCompression

VECTORS = Vectors("scm_small")
FIRST, HIGH, LENGTH = 5, 16, 39  # of the recorded sequence: first image token, high-resolution tokens, all


def signals():
    """The recorded rows of positions 21..38 over the 16 high-resolution tokens, in a whole sequence's place."""
    rows = VECTORS["attn_rows_after_high"]
    whole = torch.zeros(1, rows.shape[1], rows.shape[2], LENGTH)
    whole[..., FIRST : FIRST + HIGH] = rows
    visual = torch.zeros(1, LENGTH, dtype=torch.bool)
    visual[:, FIRST : FIRST + HIGH + 12] = True  # then three tiles of 4 tokens
    given = decoder_signals(whole, visual)
    given.detail = visual.clone()
    given.detail[:, FIRST + HIGH :] = False
    return given


def test_keeps_what_mini_monkey_keeps_and_the_token_that_it_loses():
    selection = ScaleCompression().select(signals(), [DecoderStage(2, 28)])
    everything = selection.keep[0] | ~signals().visual[0]
    published = VECTORS["kept_positions"].tolist()
    assert everything.nonzero()[:, 0].tolist() == sorted([*published, FIRST + HIGH])
    assert selection.left == [8 + 12]


@pytest.mark.parametrize(("amount", "kept"), [({}, 8), ({"ratio": 0.75}, 4), ({"keep": 3}, 3), ({"ratio": 1.0}, 0)])
def test_the_amount_is_of_the_tiles(amount, kept):
    selection = ScaleCompression(**amount).select(signals(), [DecoderStage(2, 28)])
    assert int((selection.keep & signals().detail).sum()) == kept
    assert selection.left == [kept + 12]


def test_refuses_what_cannot_be_known():
    with pytest.raises(ValueError, match="budget=average"):
        ScaleCompression(budget="average")
    with pytest.raises(ValueError, match="1 to 3"):
        ScaleCompression(k=4).schedule(4, 10)
