"""Uniformly spaced frames of a video, a part of one, an animation (GIF, WebP, APNG, AVIF) or a folder."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.media import (
    DAMAGE,
    check_decoder_pixels,
    decode_image,
    open_picture,
    reason,
    reserve_pixels,
    rgb,
)
from vlmprune.config.settings import Orientation
from vlmprune.errors import UserError
from vlmprune.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image


VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v")
FORMATS = ("GIF", "WEBP", "PNG", "AVIF")  # a TIFF or a phone's MPO may hold several pictures, but is no animation
PAUSE = 100  # ms; the duration that browsers give a frame of duration 0


def is_video(file: Path) -> bool:
    """Return True if a file is shown as frames, whatever its suffix: a video, or a picture of several frames.

    The suffix decides if the content is neither, so that the error names the expected kind.
    """
    try:
        with open_picture(file) as picture:
            return is_animation(picture)
    except DAMAGE:
        return file.suffix.lower() in VIDEO_SUFFIXES or _is_container(file)


def is_animation(picture: Image) -> bool:
    """Return True if an opened picture has several frames, in a format of animations."""
    return picture.format in FORMATS and bool(getattr(picture, "is_animated", False))


def frame_seconds(picture: Any) -> list[float]:
    """Return the start time of each frame of an animation, in seconds after the first. Raises ValueError for too many.

    The frames are not counted in advance, because counting those of a GIF reads all of them.
    """
    seconds: list[float] = []
    now = 0.0
    while True:
        try:
            picture.seek(len(seconds))
        except EOFError:
            return seconds
        check_decoder_pixels(picture.width * picture.height * (len(seconds) + 1))
        picture.load()  # WebP gives a frame's duration only after decoding
        seconds.append(now)
        now += (picture.info.get("duration") or PAUSE) / 1000


def frames_at(picture: Image, wanted: list[int], orientation: Orientation) -> list[Image]:
    """Return the RGB frames of an animation at the indices `wanted`, which ascend and may repeat."""
    frames = {}
    for index in dict.fromkeys(wanted):
        picture.seek(index)
        frames[index] = rgb(picture, orientation)
    return [frames[index] for index in wanted]


def _is_container(file: Path) -> bool:
    """Return True if a file begins like MP4, QuickTime, Matroska, WebM, AVI or MPEG (HEIC begins almost like MP4)."""
    try:
        check_regular(file)
        with open(file, "rb") as handle:
            head = handle.read(12)
    except (OSError, ValueError):  # missing, not a regular file, or a name that no file can have
        return False
    mp4 = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") and not head[8:12].startswith((b"he", b"mif", b"msf"))
    return (
        mp4
        or head.startswith((b"\x1aE\xdf\xa3", b"\0\0\1\xb3", b"\0\0\1\xba"))
        or (head[:4], head[8:]) == (b"RIFF", b"AVI ")
    )


FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
# Containers of videos, by ffmpeg's names. Its other formats are refused: playlists, lists and sessions (hls, dash,
# concat, sdp) open other files and addresses, and text formats would be drawn as pictures.
CONTAINERS = (
    *("3dostr", "asf", "avi", "dv", "flv", "gxf", "h263", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov"),
    *("mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "swf", "vc1", "yuv4mpegpipe"),
)
Spacing = Literal["linspace", "middles"]  # of the sampled frames


@dataclass(frozen=True)
class Stretch:
    """Part of a video from `start` to `end`, in seconds after its first frame."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:g}-{self.end:g} s"


def decode_frames(
    file: Path,
    count: int,
    stretch: Stretch | None = None,
    spacing: Spacing = "middles",
    orientation: Orientation = "upright",
) -> list[Image]:
    """Return `count` RGB frames of a video file or of a stretch of it, spaced by `linspace` or `middles` below.

    A video with fewer frames gives some of them repeatedly, so that every sample has as many visual tokens.
    Raises BadSample.
    """
    if not file.is_file():
        lacks = "is no file, but a folder, pipe, socket or device" if file.exists() else "is missing"
        raise BadSample(f"its video {file.name} {lacks}")
    frames = _animation_frames(file, count, stretch, spacing, orientation)
    if frames is None:
        frames = _video_frames(file, count, stretch, spacing, orientation)
    if not frames:
        raise BadSample(f"its video {file.name} has no frame")
    return resize_to_first(frames)


def read_frames(
    folder: Path,
    count: int,
    per_second: float,
    stretch: Stretch | None = None,
    spacing: Spacing = "middles",
    orientation: Orientation = "upright",
) -> list[Image]:
    """Return `count` RGB frames of a folder of numbered pictures, `per_second` of them a second. Raises BadSample."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in FRAME_SUFFIXES]
    if not files:
        raise BadSample(f"its video {folder.name} has no frame")
    files.sort(key=lambda file: (len(file.name), file.name))  # 2.jpg comes before 10.jpg
    wanted = SPACINGS[spacing]([index / per_second for index in range(len(files))], count, stretch)
    return resize_to_first([decode_image(str(files[index]), orientation=orientation) for index in wanted])


def resize_to_first(frames: list[Image]) -> list[Image]:
    """Return the frames of one video, all stretched to the size of the first, as players and decord show them."""
    size = frames[0].size
    return [frame if frame.size == size else frame.resize(size, Pictures.Resampling.BICUBIC) for frame in frames]


def linspace(seconds: list[float], count: int, stretch: Stretch | None = None) -> list[int]:
    """Return the indices of `count` frames from the first to the last of those at the times `seconds`, ascending.

    Positions are rounded down, and a count of one gives the first frame, as in Video-LLaVA and lmms-eval. stretch and
    errors: as in `middles`.
    """
    frames = _frames_of(seconds, stretch)
    return [frames[index] for index in np.linspace(0, len(frames) - 1, count, dtype=int).tolist()] if frames else []


def middles(seconds: list[float], count: int, stretch: Stretch | None = None) -> list[int]:
    """Return the indices of the frames at the middles of `count` equal parts of a stretch of a video.

    seconds: times of all frames, ascending. A stretch between two frames gives the later one. Raises BadSample if the
    stretch ends before it starts or starts after the last frame.
    """
    frames = _frames_of(seconds, stretch)
    return [frames[(2 * part + 1) * len(frames) // (2 * count)] for part in range(count)] if frames else []


SPACINGS = {"linspace": linspace, "middles": middles}


def _frames_of(seconds: list[float], stretch: Stretch | None) -> range:
    first, last = 0, len(seconds)
    if stretch is not None and seconds:
        first, last = bisect_left(seconds, stretch.start), bisect_right(seconds, stretch.end)
        if stretch.end < stretch.start or first == len(seconds):
            raise BadSample(f"its stretch {stretch} is none of its video, which ends at {seconds[-1]:g} s")
        last = max(last, first + 1)
    return range(first, last)


def _animation_frames(
    file: Path, count: int, stretch: Stretch | None, spacing: Spacing, orientation: Orientation
) -> list[Image] | None:
    """Return the frames of an animation; None for another file. Raises BadSample."""
    try:
        with open_picture(file) as picture:
            if not is_animation(picture):
                return None
            reserve_pixels(count * picture.width * picture.height)
            return frames_at(picture, SPACINGS[spacing](frame_seconds(picture), count, stretch), orientation)
    except UnidentifiedImageError:
        return None
    except DAMAGE as error:
        raise _decode_error(file, error) from error


def _video_frames(
    file: Path, count: int, stretch: Stretch | None, spacing: Spacing, orientation: Orientation
) -> list[Image]:
    """Return the frames of a video file. Raises BadSample, and UserError without PyAV."""
    try:
        import av
    except ImportError as error:
        raise UserError("video benchmarks need PyAV: pip install 'vlmprune[video]'") from error

    try:
        only = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
        with av.open(str(file.absolute()), options=only) as container:  # ffmpeg reads "a:b" as a protocol
            video = container.streams.video
            if not video or video[0].codec_context is None:
                return []
            reserve_pixels(count * video[0].width * video[0].height)
            times, keys, seconds = _index(container)
            wanted = [times[index] for index in SPACINGS[spacing](seconds, count, stretch)]
            return _frames_at(container, wanted, keys, orientation)
    except av.error.FFmpegError as error:
        raise _decode_error(file, error) from error
    except DAMAGE as error:
        raise _decode_error(file, error) from error


def _decode_error(file: Path, error: Exception) -> BadSample:
    return BadSample(f"its video {file.name} cannot be decoded ({reason(error)})")


def _index(container: Any) -> tuple[list[int], list[int], list[float]]:
    """Return the sorted time stamps of all frames and of the key frames, and the seconds of all since the first.

    They are read from the packets without decoding: the header's number of frames is absent or wrong in many files.
    """
    times, keys = [], []
    for packet in container.demux(video=0):
        if packet.size and packet.pts is not None:
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    times.sort()
    return times, sorted(keys), [float((time - times[0]) * container.streams.video[0].time_base) for time in times]


def _frames_at(container: Any, wanted: list[int], keys: list[int], orientation: Orientation) -> list[Image]:
    """Return the frames shown at the time stamps `wanted`, ascending; long stretches between them are not decoded.

    The last frame repeats for time stamps that a truncated file lacks.
    """
    stream = container.streams.video[0]
    found: list[Image] = []
    decoder: Any = None
    current: Any = None
    for time in wanted:
        before = bisect_right(keys, time)
        key = keys[before - 1] if before else None
        if decoder is None or (key is not None and current is not None and key > current.pts):
            container.seek(wanted[0] if key is None else key, stream=stream)
            decoder = container.decode(stream)
            current = None
        while current is None or current.pts < time:
            following = next(decoder, None)
            if following is None:
                break
            if following.pts is not None:
                current = following
        if current is None:
            break
        reserve_pixels(
            max(0, current.width * current.height - stream.width * stream.height)
        )  # some exceed the header's size
        image = current.to_image()
        turned = orientation == "upright" and current.rotation  # degrees counterclockwise, of a phone held upright
        found.append(image.rotate(turned, expand=True) if turned else image)
    return found + found[-1:] * (len(wanted) - len(found))
