"""Pictures that move (GIF, WebP, APNG, AVIF), by PIL; and whether a file is a picture or a video, by its content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.benchmarks.base import Orientation
from vlmprune.benchmarks.media import DAMAGE, open_picture
from vlmprune.benchmarks.rgb import rgb
from vlmprune.benchmarks.room import check_decoding
from vlmprune.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v")
FORMATS = ("GIF", "WEBP", "PNG", "AVIF")  # several pictures in another, such as TIFF or a phone's MPO, are no animation
PAUSE = 100  # ms; how long browsers show a frame of length zero


def is_video(file: Path) -> bool:
    """True for a file that is shown as frames, whatever its suffix: a video, or a picture of several frames.

    The suffix decides where the content is neither, so that the error says what was expected.
    """
    try:
        with open_picture(file) as picture:
            return is_animation(picture)
    except DAMAGE:
        return file.suffix.lower() in VIDEO_SUFFIXES or _is_container(file)


def is_animation(picture: Image) -> bool:
    """True for an opened picture of several frames."""
    return picture.format in FORMATS and bool(getattr(picture, "is_animated", False))


def frame_seconds(picture: Any) -> list[float]:
    """The beginning of each frame of an animation, in seconds from that of its first. Raises ValueError for too many.

    They are not counted before: a GIF's would all be read for that.
    """
    seconds: list[float] = []
    now = 0.0
    while True:
        try:
            picture.seek(len(seconds))
        except EOFError:
            return seconds
        check_decoding(picture.width * picture.height * (len(seconds) + 1))
        picture.load()  # WebP says how long a frame is once it is decoded
        seconds.append(now)
        now += (picture.info.get("duration") or PAUSE) / 1000


def frames_at(picture: Image, wanted: list[int], orientation: Orientation) -> list[Image]:
    """The RGB frames of an animation with these numbers, ascending."""
    frames = {}
    for index in dict.fromkeys(wanted):
        picture.seek(index)
        frames[index] = rgb(picture, orientation)
    return [frames[index] for index in wanted]


def _is_container(file: Path) -> bool:
    """True for a file that begins as MP4, QuickTime, Matroska, WebM, AVI or MPEG do; HEIC begins almost as MP4."""
    try:
        check_regular(file)
        with open(file, "rb") as handle:
            head = handle.read(12)
    except (OSError, ValueError):  # not there, no file, or a name that no file has
        return False
    mp4 = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") and not head[8:12].startswith((b"he", b"mif", b"msf"))
    return (
        mp4
        or head.startswith((b"\x1aE\xdf\xa3", b"\0\0\1\xb3", b"\0\0\1\xba"))
        or (head[:4], head[8:]) == (b"RIFF", b"AVI ")
    )
