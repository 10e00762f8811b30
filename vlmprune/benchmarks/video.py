"""Questions about videos, seen as uniformly spaced frames: the files lie in a folder, unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.frames import VIDEO_SUFFIXES, decode_frames
from vlmprune.benchmarks.hashing import listing_identity
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.tables import Table
from vlmprune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class VideoBenchmark(HubBenchmark):
    """Base. The role `video` is the file's name, with or without folder and suffix.

    videos: the folder of the video files, or of their subfolders; null is the folder that `path` names. num_frames:
    per video. The frames are given as so many images to a model without video input.
    """

    videos: str | None = None
    num_frames: int = 8

    required: ClassVar[tuple[str, ...]] = ("video", "question", "answer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}; allowed: 1 or more")
        self._videos: dict[str, list[Path]] = {}  # name without folder and suffix -> files

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        self.find_videos()
        table, identity = super().open_table(streaming)
        return table, f"{identity} {self.videos_identity()}"

    def find_videos(self) -> None:
        """List the video files of the folder. Raises UserError where there is no such folder."""
        folder = Path(self.videos).expanduser() if self.videos else self.source().folder
        if folder is None or not folder.is_dir():
            raise UserError(
                f"benchmark.videos={self.videos}: no such folder; unpack the video files of {self.path} and set "
                "benchmark.videos=/folder"
            )
        self._videos = {}
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in VIDEO_SUFFIXES:
                self._videos.setdefault(file.stem, []).append(file)

    def videos_identity(self) -> str:
        """Names and sizes of the files."""
        return f"videos {listing_identity(file for files in self._videos.values() for file in files)}"

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        name = str(self.value(row, "video"))
        return Sample(**(vars(sample) | {"image_id": name, "media": "video"}))

    def decode(self, sample: Sample) -> list[Image]:
        name = Path(sample.image_id)
        stem = name.stem if name.suffix.lower() in VIDEO_SUFFIXES else name.name
        files = self._videos.get(stem, [])
        if len(files) > 1:  # of that name in several folders: the one whose end of path is what the data say
            files = [file for file in files if str(file.with_suffix("")).endswith(f"/{name.with_suffix('')}")]
        if len(files) != 1:
            raise BadSample(f"its video {sample.image_id} is {'there several times' if files else 'missing'}")
        return decode_frames(files[0], self.num_frames)


@dataclass
class VideoChoice(VideoBenchmark, MultipleChoice):
    """Multiple choice about videos: Video-MME, MVBench, EgoSchema, NExT-QA."""
