"""A video file as a few uniformly spaced frames, decoded by PyAV."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.benchmarks.base import BadSample
from vlmprune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v")


def decode_frames(file: Path, count: int) -> list[Image]:
    """`count` RGB frames of a video, at the middles of `count` equal stretches of it. Raises BadSample.

    A video with fewer frames than asked for gives some repeatedly, so that every sample has as many visual tokens.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("video benchmarks need PyAV: pip install 'vlmprune[video]'") from error

    if not file.exists():
        raise BadSample(f"its video {file.name} is missing")
    try:
        with av.open(str(file)) as container:
            times, keys = _index(container)
            wanted = [times[(2 * part + 1) * len(times) // (2 * count)] for part in range(count)] if times else []
            frames = _frames_at(container, wanted, keys)
    except (av.error.FFmpegError, IndexError) as error:
        raise BadSample(f"its video {file.name} cannot be decoded ({' '.join(str(error).split())[:120]})") from error
    if not frames:
        raise BadSample(f"its video {file.name} has no frame")
    return frames


def _index(container: Any) -> tuple[list[int], list[int]]:
    """Time stamps of all frames and of those that decoding can start at, sorted.

    Read off the packets, without decoding: the header's number of frames is absent or wrong in many files.
    """
    times, keys = [], []
    for packet in container.demux(video=0):
        if packet.size and packet.pts is not None:
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    return sorted(times), sorted(keys)


def _frames_at(container: Any, wanted: list[int], keys: list[int]) -> list[Image]:
    """The frames shown at the time stamps `wanted`, ascending; long stretches between them are not decoded.

    What a cut-off file lost at its end is stood in for by its last frame.
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
        found.append(current.to_image())
    return found + found[-1:] * (len(wanted) - len(found))
