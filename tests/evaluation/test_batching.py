"""Order and size of batches."""

from __future__ import annotations

import pytest
import torch

from vlmprune.benchmarks.base import Sample
from vlmprune.evaluation.batching import WINDOW, BatchSize, group_by_image, windows
from vlmprune.machine import is_memory_error


def sample(number: int, image: str, media: str = "image") -> Sample:
    return Sample(str(number), image, "?", "", "", media)


def test_questions_about_one_image_stand_together():
    samples = [sample(0, "a"), sample(1, "b"), sample(2, "a"), sample(3, "c"), sample(4, "b")]
    assert [each.id for each in group_by_image(samples)] == ["0", "2", "1", "4", "3"]


@pytest.mark.parametrize(("media", "batches"), [("image", WINDOW), ("video", 1)])
def test_windows_cover_all_samples_once(media, batches):
    samples = [sample(number, str(number), media) for number in range(50)]
    found = list(windows(samples, 3))
    assert [each for window, _ in found for each in window] == samples
    assert len(found[0][0]) == 3 * batches
    assert [following for _, following in found[:-1]] == [window for window, _ in found[1:]]
    assert found[-1][1] == []


def test_other_errors_and_single_rows_are_not_tried_again():
    def fail(_rows: list[int]) -> None:
        raise error

    for error, rows in ((RuntimeError("shape mismatch"), [1, 2]), (torch.OutOfMemoryError("out of memory"), [1])):
        with pytest.raises(RuntimeError) as raised:
            BatchSize(2).run_batches(rows, fail)
        assert raised.value is error


def test_what_out_of_memory_looks_like():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_memory_error(raised.value)
    assert not is_memory_error(ValueError("out of paper"))
