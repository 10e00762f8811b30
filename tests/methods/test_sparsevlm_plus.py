"""SparseVLM+'s own part of the score: the correction for position, and the heads that count."""

from __future__ import annotations

import dataclasses

import torch

from tests.methods.decoder_signals import LAYOUTS, signals_of
from tests.methods.llama import frequencies
from vlmprune.methods.sparsevlm import SparseVLMPlus, position_bias


def test_position_bias_is_that_of_rotated_ones() -> None:
    positions, theta = torch.tensor([[3, 8, 20, 21]]), frequencies(8)
    difference = positions[0, -2:, None, None] - positions[0, None, :, None]
    expected = (difference * theta).cos().sum(dim=2) * 2 / 8**0.5
    torch.testing.assert_close(position_bias(positions, theta, 2)[0], expected)


def test_positions_that_all_samples_share() -> None:
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
