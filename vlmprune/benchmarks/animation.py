"""Animated pictures (GIF, WebP, APNG, AVIF), read by PIL; and the test of a file's content for picture or video."""

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
        check_decoding(picture.width * picture.height * (len(seconds) + 1))
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
