"""Words that rate the visual tokens in SparseVLM and SparseVLM+."""

from __future__ import annotations

import pytest
import torch

from tests.methods.decoder_signals import IMAGE, LAYOUTS, PAD, TEXT, batch
from vlmprune.methods.sparsevlm import SparseVLM


def test_words_like_the_image_rate() -> None:
    embeds = torch.zeros(1, 6, 2)
    embeds[0, 1:3, 0] = 2  # two visual tokens
    embeds[0, 3:, 0] = torch.tensor([0.0, 1.0, -1.0])
    embeds[0, 0, 0] = 9  # text before the image never rates
    kinds = torch.tensor([[TEXT, IMAGE, IMAGE, TEXT, TEXT, TEXT]])
    rates = SparseVLM().raters(embeds, kinds == IMAGE, kinds != PAD)
    assert rates.tolist() == [[False, False, False, False, True, False]]


@pytest.mark.parametrize("words", [1, 4])
def test_all_text_rates_where_no_word_stands_out(words: int) -> None:
    kinds = torch.tensor([[TEXT, IMAGE, IMAGE] + [TEXT] * words])
    rates = SparseVLM().raters(torch.ones(1, 3 + words, 4), kinds == IMAGE, kinds != PAD)
    assert rates.tolist() == [[False] * 3 + [True] * words]


def test_text_between_images_and_padding_do_not_rate() -> None:
    embeds, visual, valid = batch(LAYOUTS)
    rates = SparseVLM().raters(embeds, visual, valid)
    for row, after in enumerate((9, 5, 6)):
        assert rates[row].any()
        assert not rates[row, :-after].any()


@pytest.mark.parametrize("kinds", [[TEXT] * 4, [TEXT, IMAGE, IMAGE, IMAGE]])
def test_nothing_rates_without_an_image_or_text_after_it(kinds: list[int]) -> None:
    embeds, visual, valid = batch([kinds])
    assert not SparseVLM().raters(embeds, visual, valid).any()


def test_a_row_does_not_depend_on_its_batch() -> None:
    embeds, visual, valid = batch(LAYOUTS)
    together = SparseVLM().raters(embeds, visual, valid)
    for row in range(len(LAYOUTS)):
        real = valid[row]
        alone = SparseVLM().raters(embeds[row, real][None], visual[row, real][None], real[real][None])
        assert torch.equal(alone[0], together[row, real])


def test_half_precision() -> None:
    embeds, visual, valid = batch(LAYOUTS)
    half = 300 * embeds.half()  # products overflow in half
    assert torch.equal(SparseVLM().raters(half, visual, valid), SparseVLM().raters(half.float(), visual, valid))
