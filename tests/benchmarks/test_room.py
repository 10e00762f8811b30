"""Large pictures: one at a time, none too large, no format that runs or opens something else."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.robustness.hostile.pictures import gif, scans, video
from vlmprune.benchmarks import media
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.columns import check_values, most_common
from vlmprune.benchmarks.frames import decode_frames, is_video
from vlmprune.benchmarks.media import decode_image, decode_images


def test_large_samples_wait_for_each_other_and_small_ones_do_not() -> None:
    at_once, most, small = [0], [0], threading.Event()

    def decode() -> None:
        with media.sample_budget():
            media.reserve_pixels(media.LARGE_SAMPLE_PIXELS)
            media.reserve_pixels(1)  # together with the first it is large
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            small.wait(5)
            time.sleep(0.01)
            at_once[0] -= 1

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    with media.sample_budget():
        media.reserve_pixels(media.LARGE_SAMPLE_PIXELS)  # while a large one is there
    small.set()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_large_sample_that_fails_lets_the_next_one_in() -> None:
    for _ in range(2):
        with pytest.raises(BadSample, match="536,870,913 pixels together"), media.sample_budget():
            media.reserve_pixels(media.MAX_SAMPLE_PIXELS)
            media.reserve_pixels(1)
    media.reserve_pixels(media.MAX_SAMPLE_PIXELS)  # alone, each stands for itself


def test_pictures_too_large_together_are_not_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(media, "MAX_SAMPLE_PIXELS", 25_000)
    assert len(decode_images(["a.png"] * 2, tmp_path, "upright")) == 2
    monkeypatch.setattr("vlmprune.benchmarks.media.decode_image", None)
    with pytest.raises(BadSample, match="30,000 pixels together"):
        decode_images(["a.png"] * 3, tmp_path, "upright")


def test_scans_and_frames_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(scans(64, 50))
    (tmp_path / "a.gif").write_bytes(gif(256, 20))
    assert decode_image("a.jpg", tmp_path).size == (64, 64)
    assert len(decode_frames(tmp_path / "a.gif", 4)) == 4
    monkeypatch.setattr(media, "MAX_DECODER_PIXELS", 2 * 64 * 64)
    with pytest.raises(BadSample, match="pixels are to be decoded"):
        decode_image("a.jpg", tmp_path)
    with pytest.raises(BadSample, match="pixels are to be decoded"):
        decode_frames(tmp_path / "a.gif", 4)


def test_a_list_of_other_videos_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(video())
    assert len(decode_frames(tmp_path / "secret.mp4", 3)) == 3
    (tmp_path / "x.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(BadSample, match=r"its video x\.mp4 cannot be decoded"):
        decode_frames(tmp_path / "x.mp4", 3)
    with pytest.raises(BadSample, match="pixels together"):
        decode_frames(tmp_path / "secret.mp4", 10**9)


def test_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    assert is_video(tmp_path / "x.mp4")
    for call in (lambda: decode_frames(tmp_path / "x.mp4", 2), lambda: decode_image("x.mp4", tmp_path)):
        with pytest.raises(BadSample, match="pipe"):
            call()


@pytest.mark.parametrize("value", ["What", 3, 1.5, True, None])
def test_a_question_is_text_or_a_number(value: object) -> None:
    check_values(lambda role: value, ("question", "id", "category"))


def test_equal_answers_are_counted_in_no_time() -> None:
    answers = [f"answer {number}" for number in range(100_000)]
    assert most_common([*answers, "answer 7"]) == "answer 7"
