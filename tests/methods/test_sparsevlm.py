"""Choices of SparseVLM and SparseVLM+ from hand-made signals: order, batches, and where nothing rates."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.methods.decoder_signals import IMAGE, LAYOUTS, TEXT, batch, row_of, signals_of
from vlmprune.methods.sparsevlm import RecyclingStage, SparseVLM, SparseVLMPlus, TextRatedMethod, merge_clusters, ranks

BOTH = [SparseVLM, SparseVLMPlus]


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
