"""Small pure parts of the evaluation."""

import torch

from vlmprune.evaluation.predictions import bitmask, by_layer, generated_lengths, run_lengths


def test_bitmask_puts_the_first_patch_highest():
    assert bitmask([True, False, False, True]) == "9"
    assert bitmask([False] * 9) == "000"
    assert int(bitmask([False] * 8 + [True]), 16) == 1
    assert bitmask([]) == "0"


def test_run_lengths_round_trip():
    counts = [144, 144, 72, 72, 72, 18]
    runs = run_lengths(counts)
    assert runs == [(0, 144), (2, 72), (5, 18)]
    assert by_layer(runs, 6) == counts


def test_generated_tokens_end_with_the_first_end_of_sequence():
    new = torch.tensor([[5, 2, 0, 0], [5, 6, 7, 2], [5, 6, 7, 8], [2, 0, 0, 0]])
    assert generated_lengths(new, 2) == [2, 4, 4, 1]
    assert generated_lengths(new, [2, 7]) == [2, 3, 3, 1]
    assert generated_lengths(new, None) == [4, 4, 4, 4]
