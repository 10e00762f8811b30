"""Choices of SparseVLM and SparseVLM+ from hand-made signals: raters, scores, merging, order and batches."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.methods.decoder_signals import IMAGE, LAYOUTS, PAD, TEXT, batch, row_of, signals_of
from tests.methods.llama import frequencies
from vlmprune.methods.sparsevlm import (
    RecyclingStage,
    SparseVLM,
    SparseVLMPlus,
    TextRatedMethod,
    merge_clusters,
    position_bias,
    ranks,
)

BOTH = [SparseVLM, SparseVLMPlus]


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


def test_raters_do_not_depend_on_their_batch() -> None:
    embeds, visual, valid = batch(LAYOUTS)
    together = SparseVLM().raters(embeds, visual, valid)
    for row in range(len(LAYOUTS)):
        real = valid[row]
        alone = SparseVLM().raters(embeds[row, real][None], visual[row, real][None], real[real][None])
        assert torch.equal(alone[0], together[row, real])


def test_raters_in_half_precision() -> None:
    embeds, visual, valid = batch(LAYOUTS)
    half = 300 * embeds.half()  # products overflow in half
    assert torch.equal(SparseVLM().raters(half, visual, valid), SparseVLM().raters(half.float(), visual, valid))


def test_position_bias_is_that_of_rotated_ones() -> None:
    positions, theta = torch.tensor([[3, 8, 20, 21]]), frequencies(8)
    difference = positions[0, -2:, None, None] - positions[0, None, :, None]
    expected = (difference * theta).cos().sum(dim=2) * 2 / 8**0.5
    torch.testing.assert_close(position_bias(positions, theta, 2)[0], expected)


def test_positions_that_all_samples_share_correct_alike() -> None:
    signals = signals_of([LAYOUTS[0], LAYOUTS[0]], SparseVLMPlus())
    shared = dataclasses.replace(signals, positions=signals.positions[:1])
    torch.testing.assert_close(SparseVLMPlus().score(shared), SparseVLMPlus().score(signals))


def test_the_head_that_looks_at_the_image_rates() -> None:
    signals = signals_of(LAYOUTS[:1], SparseVLMPlus())
    signals = dataclasses.replace(signals, positions=torch.zeros_like(signals.positions))  # no correction
    signals.attention[:, 0] = signals.attention[:, 0].masked_fill(signals.visual.unsqueeze(1), 0)
    alone = dataclasses.replace(signals, attention=signals.attention[:, 1:])
    expected = SparseVLMPlus().score(alone)
    torch.testing.assert_close(SparseVLMPlus(heads=1).score(signals), expected)
    mean_of_two = SparseVLMPlus(heads=14).score(signals)  # there are two heads
    torch.testing.assert_close(mean_of_two[signals.visual], expected[signals.visual] / 2)


def test_tokens_merge_by_cluster() -> None:
    x = torch.tensor([[[0.0, 0], [9, 9], [0, 1], [9, 8], [1, 0], [8, 8]]])
    centres, merged = merge_clusters(x, 2)
    assert {index % 2 for index in centres[0].tolist()} == {0, 1}
    means = {tuple(mean) for mean in (merged[0] * 3).round().tolist()}
    assert means == {(1, 1), (26, 25)}


def test_equal_tokens_merge() -> None:
    centres, merged = merge_clusters(torch.ones(1, 12, 4), 2)
    assert centres.tolist() == [[0, 1]]
    torch.testing.assert_close(merged, torch.ones(1, 2, 4))  # a centre keeps itself, though it equals another


def test_one_token_merges_with_none() -> None:
    centres, merged = merge_clusters(torch.ones(2, 1, 4), 1)
    assert centres.tolist() == [[0], [0]]
    torch.testing.assert_close(merged, torch.ones(2, 1, 4))


@pytest.mark.parametrize("cls", BOTH)
def test_the_last_row_rates_where_none_does(cls: type[TextRatedMethod]) -> None:
    signals = signals_of(LAYOUTS, cls())
    signals.raters[1] = False
    last = torch.zeros_like(signals.raters)
    last[:, -1] = True
    expected = cls().score(dataclasses.replace(signals, raters=last))
    torch.testing.assert_close(cls().score(signals)[1], expected[1])


@pytest.mark.parametrize("positions", ["renumber", "keep"])
@pytest.mark.parametrize("keep", [1, 2, 12, 20])
@pytest.mark.parametrize("cls", BOTH)
def test_a_sample_does_not_depend_on_its_batch(cls: type[TextRatedMethod], keep: int, positions: str) -> None:
    method = cls(keep=keep, layers=(15,), positions=positions)
    signals = signals_of(LAYOUTS, method)
    stages = [method.stages(32, n)[0] for n in (36, 36, 20)]
    together = method.select(signals, stages)
    for row, stage in enumerate(stages):
        alone = method.select(row_of(signals, row), [stage])
        assert together.keep[row].sum() == keep
        assert not (together.keep[row] & ~signals.visual[row]).any()
        assert torch.equal(together.keep[row], alone.keep[0])
        if stage.merged:
            torch.testing.assert_close(together.hidden[row], alone.hidden[0])
        if alone.order is not None:
            assert torch.equal(together.order[row].argsort(), alone.order[0].argsort())


def test_merged_tokens_follow_the_last_visual_token() -> None:
    method = SparseVLM(keep=8, layers=(15,))
    signals = signals_of(LAYOUTS, method)
    before = signals.hidden.clone()
    stages = [RecyclingStage(16, 5, 3, 11)] * 3
    chosen = method.select(signals, stages)
    assert torch.equal(signals.hidden, before)
    score = method.score(signals)
    for row, layout in enumerate(LAYOUTS):
        visual = [place for place, kind in enumerate(layout) if kind == IMAGE]
        best = sorted(visual, key=lambda place: -score[row, place].item())
        kept, candidates = sorted(best[:5]), torch.tensor(best[5:16])
        centres, merged = merge_clusters(before[row, candidates][None], 3)
        slots = candidates[centres[0]].tolist()
        place = chosen.order[row].argsort(stable=True)
        sequence = [p for p in place.tolist() if chosen.keep[row, p] or layout[p] == TEXT]
        text = [p for p, kind in enumerate(layout) if kind == TEXT]
        after = [p for p in text if p > visual[-1]]
        assert sequence == sorted({*kept, *text} - {*after}) + slots + after
        torch.testing.assert_close(chosen.hidden[row, slots], merged[0])
        others = [p for p in range(len(layout)) if p not in slots]
        assert torch.equal(chosen.hidden[row, others], before[row, others])


def test_merged_tokens_stand_at_their_centres_where_positions_are_kept() -> None:
    method, other = SparseVLM(keep=8, layers=(15,), positions="keep"), SparseVLM(keep=8, layers=(15,))
    stages = [method.stages(32, n)[0] for n in (36, 36, 20)]
    signals = signals_of(LAYOUTS, method)
    chosen, renumbered = method.select(signals, stages), other.select(signals, stages)
    assert chosen.order is None
    assert torch.equal(chosen.keep, renumbered.keep)
    assert torch.equal(chosen.hidden, renumbered.hidden)


@pytest.mark.parametrize("cls", BOTH)
def test_nothing_is_merged_where_nothing_is_dropped_or_left(cls: type[TextRatedMethod]) -> None:
    for keep, kept in ((36, [36, 36, 20]), (0, [0, 0, 0])):
        method = cls(keep=keep)
        chosen = method.select(signals_of(LAYOUTS, method), [method.stages(32, n)[-1] for n in (36, 36, 20)])
        assert chosen.keep.sum(dim=1).tolist() == kept
        assert chosen.hidden is None
        assert chosen.order is None


def test_merged_tokens_have_the_dtype_of_the_others() -> None:
    method = SparseVLM(keep=8, layers=(15,))
    signals = signals_of(LAYOUTS, method)
    stages = [method.stages(32, n)[0] for n in (36, 36, 20)]
    half = dataclasses.replace(signals, hidden=signals.hidden.bfloat16())
    chosen = method.select(half, stages)
    assert chosen.hidden.dtype == torch.bfloat16
    assert chosen.hidden.isfinite().all()


@pytest.mark.parametrize("cls", BOTH)
def test_macs(cls: type[TextRatedMethod]) -> None:
    """torch counts what the methods say that their matrix products cost."""
    method = cls(keep=12, layers=(15,))
    embeds, visual, valid = batch(LAYOUTS[:1])
    with FlopCounterMode(display=False) as counter:
        method.raters(embeds, visual, valid)
    assert counter.get_total_flops() == 2 * method.rater_macs(48, 6)
    signals, stages = signals_of(LAYOUTS[:1], method), method.stages(32, 36)
    with FlopCounterMode(display=False) as counter:
        method.select(signals, stages)
    assert counter.get_total_flops() == 2 * method.stage_macs(stages[0], 48, 9, width=6, head_width=4)
    assert counter.get_total_flops() > 0


class TestRankAdaptive:
    def test_a_sample_does_not_depend_on_its_batch(self) -> None:
        method = SparseVLM(rank_adaptive=True, scale=1.5, bias=1)
        signals = signals_of(LAYOUTS, method)
        stages = [method.stages(32, n)[0] for n in (36, 36, 20)]
        together = method.select(signals, stages)
        assert together.left == together.keep.sum(dim=1).tolist()
        for row, stage in enumerate(stages):
            alone = method.select(row_of(signals, row), [stage])
            assert alone.left == together.left[row : row + 1]
            assert torch.equal(alone.keep[0], together.keep[row])

    def test_at_least_one_stays(self) -> None:
        method = SparseVLM(rank_adaptive=True, scale=0.01)
        chosen = method.select(signals_of(LAYOUTS, method), [method.stages(32, n)[0] for n in (36, 36, 20)])
        assert chosen.left == [1 + 2, 1 + 2, 1 + 1]  # kept and merged

    def test_rank_counts_raters_and_visual_tokens_only(self) -> None:
        signals = signals_of(LAYOUTS, SparseVLM())
        for row, (rank, n) in enumerate(ranks(signals)):
            rows = signals.attention[row].mean(dim=0)[signals.raters[row]][:, signals.visual[row]]
            assert (rank, n) == (torch.linalg.matrix_rank(rows), rows.shape[1])

    def test_all_stay_at_full_rank(self) -> None:
        method = SparseVLM(rank_adaptive=True, scale=0.1)
        signals = signals_of([[TEXT] * 2 + [IMAGE] * 3 + [TEXT] * 9], method)
        signals.raters[:] = True
        chosen = method.select(signals, method.stages(32, 36)[:1])  # the three that are left of 36
        assert chosen.left == [3]
        assert torch.equal(chosen.keep, signals.visual)
