"""A file is a picture or a video by its content; videos turned by their metadata, or whose frames differ in size."""

from __future__ import annotations

import json
import shutil

import av
import pytest
from PIL import Image

from tests.benchmarks.fixtures import picture, write_video
from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.frames import Stretch, decode_frames, frame_seconds, is_video, read_frames

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
    for name in ("sound.mp4", "none.avi", "empty.mp4"):
        with pytest.raises(BadSample, match=rf"its video {name} (has no frame|cannot be decoded)"):
            decode_frames(tmp_path / name, 4)
