"""Frames of videos, animations and folders: which ones, turned and sized alike; and which file is a video at all."""

from __future__ import annotations

import json
import shutil

import av
import pytest
from PIL import Image

from tests.benchmarks.fixtures import bar, picture, write_video
from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.frames import Stretch, decode_frames, frame_seconds, is_video, middles, read_frames

STRIPS = [Image.new("RGB", (16, 16), (60 * k, 0, 0)) for k in range(4)]


def reds(frames):
    return [round(frame.getpixel((8, 8))[0] / 60) for frame in frames]


def write_animation(file, kind, durations=0):
    STRIPS[0].save(file, kind, save_all=True, append_images=STRIPS[1:], duration=durations)


@pytest.fixture
def files(tmp_path):
    """Files whose suffix says little, or lies."""
    for kind in ("gif", "webp", "png", "avif"):
        write_animation(tmp_path / f"moves.{kind}", kind)
        picture(0).save(tmp_path / f"still.{kind}")
    write_video(tmp_path / "video.mp4")
    for name in ("video.gif", "video.jpg", "video"):
        shutil.copy(tmp_path / "video.mp4", tmp_path / name)
    for suffix in ("mkv", "avi"):
        write_video(tmp_path / f"other.{suffix}")
        shutil.copy(tmp_path / f"other.{suffix}", tmp_path / f"{suffix}.png")
    shutil.copy(tmp_path / "still.png", tmp_path / "png.jpg")
    shutil.copy(tmp_path / "still.png", tmp_path / "png.mp4")
    shutil.copy(tmp_path / "moves.gif", tmp_path / "gif.jpg")
    for kind in ("tiff", "mpo"):  # pages, and a phone's second view
        picture(0).save(tmp_path / f"several.{kind}", save_all=True, append_images=[picture(1)])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x24ftypheic" + b"\0" * 40)
    return tmp_path


def test_content_says_what_a_file_is(files):
    videos = {file.name for file in files.iterdir() if is_video(file)}
    moving = {f"moves.{kind}" for kind in ("gif", "webp", "png", "avif")} | {"gif.jpg"}
    filmed = {"video.mp4", "video.gif", "video.jpg", "video", "other.mkv", "other.avi", "mkv.png", "avi.png"}
    assert videos == moving | filmed | {"text.mp4"}
    assert is_video(files / "gone.mp4") and not is_video(files / "gone.png") and not is_video(files)


def test_a_still_gif_is_one_picture_and_a_lying_suffix_changes_nothing(files):
    names = ["still.gif", "still.webp", "png.mp4", "png.jpg", "moves.webp", "video.gif", "gif.jpg"]
    rows = [{"image": name, "question": "What?", "answer": "x"} for name in names]
    (files / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = build(["benchmark=folder", f"benchmark.path={files}"])
    samples = benchmark.load()
    assert [sample.media for sample in samples] == ["image"] * 4 + ["video"] * 3
    assert [len(benchmark.images(sample)) for sample in samples] == [1] * 4 + [8] * 3


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "avif"])
def test_frames_of_an_animation(kind, tmp_path):
    file = tmp_path / f"a.{kind}"
    write_animation(file, kind)  # frames of length zero
    assert reds(decode_frames(file, 4)) == [0, 1, 2, 3]
    assert reds(decode_frames(file, 2)) == [1, 3]
    assert reds(decode_frames(file, 8)) == [0, 0, 1, 1, 2, 2, 3, 3]
    write_animation(file, kind, [1000, 1000, 2000, 1000])
    with Image.open(file) as image:
        assert frame_seconds(image) == [0, 1, 2, 4]
    assert reds(decode_frames(file, 2, Stretch(1.5, 4.0))) == [2, 3]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BadSample, match=rf"its video a\.{kind} (cannot be decoded|has no frame)"):
        decode_frames(file, 4)


def test_what_is_transparent_in_an_animation_is_white(tmp_path):
    clear = [Image.new("RGBA", (8, 8), (0, k, 0, 0)) for k in range(2)]
    clear[0].save(tmp_path / "a.png", save_all=True, append_images=clear[1:])
    assert [frame.getpixel((4, 4)) for frame in decode_frames(tmp_path / "a.png", 2)] == [(255, 255, 255)] * 2


@pytest.mark.parametrize(("degrees", "white"), [(0, (2, 16)), (90, (16, 61)), (-90, (16, 2)), (180, (61, 16))])
def test_a_video_is_turned_as_its_metadata_say(degrees, white, tmp_path):
    """The left end of each stored frame is white."""
    stored = Image.new("RGB", (64, 32), "black")
    stored.paste("white", (0, 0, 16, 32))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = stored.size
        stream.set_display_rotation(degrees)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_image(stored)))
        container.mux(stream.encode(None))
    (frame,) = decode_frames(tmp_path / "a.mp4", 1)
    assert frame.size == ((32, 64) if abs(degrees) == 90 else (64, 32)) and min(frame.getpixel(white)) > 200
    (frame,) = decode_frames(tmp_path / "a.mp4", 1, orientation="stored")
    assert frame.size == (64, 32) and min(frame.getpixel((2, 16))) > 200


def test_frames_of_another_size_are_stretched_to_the_first(tmp_path):
    for number, size in enumerate([(30, 20), (20, 30), (31, 17)]):
        Image.new("RGB", size, (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    frames = read_frames(tmp_path, 3, 3.0)
    assert [frame.size for frame in frames] == [(30, 20)] * 3 and reds(frames) == [0, 1, 2]


@pytest.mark.parametrize("size", [(63, 33), (17, 101), (2, 2)])
def test_odd_sizes(size, tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", size, "white"))))
        container.mux(stream.encode(None))
    assert [frame.size for frame in decode_frames(tmp_path / "a.avi", 2)] == [size] * 2


def test_a_video_without_pictures_is_a_bad_sample(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        container.add_stream("aac", rate=44100)
        container.start_encoding()
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        container.start_encoding()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"not a video")
    for name in ("sound.mp4", "none.avi", "empty.mp4", "text.mp4", "gone.mp4"):
        with pytest.raises(BadSample, match=rf"its video {name} (has no frame|cannot be decoded|is missing)"):
            decode_frames(tmp_path / name, 4)


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
