"""Questions about videos, seen as uniformly spaced frames: the files lie in a folder, unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.frames import FRAME_SUFFIXES, VIDEO_SUFFIXES, Stretch, decode_frames, read_frames
from vlmprune.benchmarks.hashing import listing_identity
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.tables import Table
from vlmprune.errors import UserError
from vlmprune.files import expanded

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class VideoBenchmark(HubBenchmark):
    """Base. The role `video` is the file's name, with or without folder and suffix, or that of a folder of frames; the
    roles `start` and `end`, where a row has both, cut it to these seconds.

    videos: the folder of the video files, or of their subfolders; null is the folder that `path` names. num_frames:
    per video. frames_per_second: in folders of frames. The frames are given as so many images to a model without video
    input.
    """

    videos: str | None = None
    num_frames: int = 8
    frames_per_second: float = 3.0

    required: ClassVar[tuple[str, ...]] = ("video", "question", "answer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}; allowed: 1 or more")
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second={self.frames_per_second}; allowed: more than 0")
        self._videos: dict[str, list[Path]] = {}  # name without folder and suffix -> files, or folders of frames
        self._frames: list[Path] = []  # in those folders
        self._shown: dict[str, tuple[str, Stretch | None]] = {}  # sample -> name of its video, and what of it

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        self.find_videos()
        table, identity = super().open_table(streaming)
        return table, f"{identity} {self.videos_identity()}"

    def find_videos(self) -> None:
        """List the folder's video files and folders of frames. Raises UserError where there is no such folder."""
        folder = expanded("benchmark.videos", self.videos) if self.videos else self.source().folder
        if folder is None or not folder.is_dir():
            raise UserError(
                f"benchmark.videos={self.videos}: no such folder; unpack the video files of {self.path} and set "
                "benchmark.videos=/folder"
            )
        files = sorted(folder.rglob("*"))
        self._frames = [file for file in files if file.suffix.lower() in FRAME_SUFFIXES]
        self._videos = {}
        for file in files:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                self._videos.setdefault(file.stem, []).append(file)
        files_alone = set(self._videos)  # a video with pictures beside it, in a folder of its name, is the file
        for part in dict.fromkeys(file.parent for file in self._frames):
            if part.name not in files_alone:
                self._videos.setdefault(part.name, []).append(part)

    def videos_identity(self) -> str:
        """Names and sizes of the files."""
        videos = (file for files in self._videos.values() for file in files if not file.is_dir())
        frames = f" frames {listing_identity(self._frames)}" if self._frames else ""
        return f"videos {listing_identity(videos)}{frames}"

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        name, stretch = str(self.value(row, "video")), self.stretch(row)
        self._shown[sample_id] = name, stretch
        image_id = name if stretch is None else f"{name} {stretch}"
        return Sample(**(vars(sample) | {"image_id": image_id, "media": "video"}))

    def stretch(self, row: dict[str, Any]) -> Stretch | None:
        """What of its video a row is about; None for all of it. Raises BadSample."""
        start, end = self.value(row, "start"), self.value(row, "end")
        if start is None or end is None:
            return None
        try:
            return Stretch(float(start), float(end))
        except (TypeError, ValueError) as error:
            raise BadSample(f"its start {start} and end {end} are no seconds") from error

    def decode(self, sample: Sample) -> list[Image]:
        given, stretch = self._shown[sample.id]
        file = self.find(given)
        if file.is_dir():
            return read_frames(file, self.num_frames, self.frames_per_second, stretch)
        return decode_frames(file, self.num_frames, stretch)

    def find(self, given: str) -> Path:
        """The one video file or folder of frames that a row names. Raises BadSample."""
        bare = _bare(Path(given))
        files = self._videos.get(bare.name, [])
        if len(files) > 1:  # of that name in several folders: the one whose end of path is what the data say
            files = [file for file in files if f"/{_bare(file)}".endswith(f"/{bare}")]
        if len(files) != 1:
            raise BadSample(f"its video {given} is {'there several times' if files else 'missing'}")
        return files[0]


def _bare(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() in VIDEO_SUFFIXES else file


@dataclass
class VideoChoice(VideoBenchmark, MultipleChoice):
    """Multiple choice about videos: Video-MME, MVBench, EgoSchema, NExT-QA."""
