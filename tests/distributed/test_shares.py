"""Dealing out questions: everything once, images and batches whole, shares of nearly equal size."""

from __future__ import annotations

import random

import pytest

from vlmprune.benchmarks.base import Sample
from vlmprune.distributed.team import split_questions
from vlmprune.evaluation.batching import WINDOW, group_by_image, windows


def questions(images: int, most: int, seed: int) -> list[Sample]:
    """Up to `most` questions about each image, in no order."""
    draw = random.Random(seed)
    pairs = [(image, number) for image in range(images) for number in range(draw.randint(1, most))]
    draw.shuffle(pairs)
    return [Sample(f"{image}-{number}", f"image{image}", "?", "", "all") for image, number in pairs]


@pytest.mark.parametrize("same_batches", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_every_question_is_dealt_once(processes, same_batches):
    samples = questions(50, 9, seed=processes)
    shares = split_questions(samples, processes, 2, same_batches)
    assert len(shares) == processes
    assert sorted(sample.id for share in shares for sample in share) == sorted(sample.id for sample in samples)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_an_image_stays_with_one_process_and_shares_are_balanced(processes):
    shares = split_questions(questions(50, 9, seed=0), processes, 32, same_batches=False)
    images = [{sample.image_id for sample in share} for share in shares]
    assert sum(map(len, images)) == len(set.union(*images)) == 50
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 9


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_in_half_precision_a_process_goes_through_windows_of_the_one_process(processes, batch_size):
    """They are asked together as by one process, whatever sorts and groups a window."""
    samples = questions(40, 12, seed=batch_size)
    alone = [window for window, _ in windows(group_by_image(samples), batch_size)]
    shares = split_questions(samples, processes, batch_size, same_batches=True)
    shared = [window for share in shares for window, _ in windows(group_by_image(share), batch_size)]
    assert sorted(shared, key=alone.index) == alone
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= WINDOW * batch_size


def test_fewer_images_than_processes_leave_some_without_work():
    shares = split_questions(questions(2, 3, seed=1), 4, 32, same_batches=False)
    assert [len({sample.image_id for sample in share}) for share in shares] == [1, 1, 0, 0]
