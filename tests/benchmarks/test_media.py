"""Images and frames out of whatever a dataset stores; damaged ones are named."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.benchmarks.fixtures import bar, write_video
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.frames import Stretch, decode_frames, middles, read_frames


def test_frames_are_the_middles_of_equal_stretches(tmp_path):
    write_video(tmp_path / "a.mp4", frames=9)
    frames = decode_frames(tmp_path / "a.mp4", 3)
    # Of nine frames in three stretches: the second, the fifth and the eighth.
    assert [bar(frame) for frame in frames] == [1, 4, 7]
    assert [bar(frame) for frame in decode_frames(tmp_path / "a.mp4", 1)] == [4]


def test_long_stretches_are_skipped_to_the_same_frames(tmp_path):
    write_video(tmp_path / "a.mp4", frames=9)
    write_video(tmp_path / "b.mp4", frames=9, keyframes=2)  # every second frame can be started at
    for count in (1, 3, 9):
        once = [bar(frame) for frame in decode_frames(tmp_path / "a.mp4", count)]
        assert [bar(frame) for frame in decode_frames(tmp_path / "b.mp4", count)] == once


def test_a_cut_off_video_gives_what_is_left_or_is_bad(tmp_path):
    write_video(tmp_path / "a.mkv", frames=60, keyframes=5)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    assert len(decode_frames(tmp_path / "a.mkv", 4)) == 4
    write_video(tmp_path / "a.mp4")
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 2 // 3])  # its index is at the end
    with pytest.raises(BadSample, match=r"a\.mp4"):
        decode_frames(tmp_path / "a.mp4", 4)


def test_a_short_video_repeats_frames(tmp_path):
    write_video(tmp_path / "a.mp4", frames=2)
    assert [bar(frame) for frame in decode_frames(tmp_path / "a.mp4", 4)] == [0, 0, 1, 1]


def test_damaged_videos_are_bad_samples(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    with pytest.raises(BadSample, match=r"a\.mp4 cannot be decoded"):
        decode_frames(tmp_path / "a.mp4", 2)
    with pytest.raises(BadSample, match=r"b\.mp4 is missing"):
        decode_frames(tmp_path / "b.mp4", 2)


def test_middles_of_a_stretch():
    seconds = [index / 2 for index in range(20)]  # 0 to 9.5 s
    assert middles(seconds, 2) == [5, 15]
    assert middles(seconds, 2, Stretch(2.0, 3.9)) == [5, 7]  # frames 4 to 7
    assert middles(seconds, 1, Stretch(2.1, 2.2)) == [5]  # between two frames: the later one
    assert middles(seconds, 1, Stretch(9.0, 99.0)) == [19]
    assert middles([], 3) == []
    for stretch in (Stretch(9.6, 12.0), Stretch(3.0, 2.0)):
        with pytest.raises(BadSample, match=f"{stretch} is none of its video, which ends at 9.5 s"):
            middles(seconds, 2, stretch)


def test_a_stretch_of_a_file(tmp_path):
    write_video(tmp_path / "a.mp4", frames=9)  # 5 a second
    frames = decode_frames(tmp_path / "a.mp4", 2, Stretch(0.8, 1.4))
    assert [bar(frame) for frame in frames] == [5, 7]


def test_a_folder_of_frames_in_the_order_of_their_numbers(tmp_path):
    for k in range(1, 13):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [frame.getpixel((4, 4))[0] // 20 for frame in read_frames(tmp_path, 4, 3.0)] == [2, 5, 8, 11]
    stretch = Stretch(1.0, 2.4)  # at three a second the fourth to the eighth
    assert [frame.getpixel((4, 4))[0] // 20 for frame in read_frames(tmp_path, 1, 3.0, stretch)] == [6]
