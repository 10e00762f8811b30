"""Video benchmarks, asked on uniformly spaced frames: folders of videos, MVBench and NExT-QA."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from vlmprune.benchmarks.base import BadSample, Metric, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.columns import answer_texts, scalar_text
from vlmprune.benchmarks.frames import FRAME_SUFFIXES, VIDEO_SUFFIXES, Stretch, decode_frames, read_frames
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import wups
from vlmprune.benchmarks.sources import Source
from vlmprune.benchmarks.tables import ConcatenatedTable, Table
from vlmprune.errors import UserError
from vlmprune.files import expand_path
from vlmprune.hashing import listing_identity

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class VideoBenchmark(HubBenchmark):
    """Base of video benchmarks. Role `video`: the name of a file, with or without folder and suffix, or of a folder of
    frames. Roles `start` and `end`, if a row has both: the seconds that it is cut to.

    videos: the folder of the video files, or of their subfolders; null is the folder that `path` names. file_name:
    template of a file's name that differs from the role `video`, such as "v_{video}". num_frames: per video. frames:
    spacing, from the first to the last (linspace) or the middles of equal parts (middles). frames_per_second: of the
    folders of frames. A model without video input gets the frames as so many images.
    """

    videos: str | None = None
    file_name: str = "{video}"
    num_frames: Annotated[int, Interval(ge=1, le=4096)] = 8
    frames: Literal["linspace", "middles"] = "linspace"
    frames_per_second: Annotated[float, Interval(ge=0.001, le=1000)] = 3.0

    required: ClassVar[tuple[str, ...]] = ("video", "question", "answer")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folder = Path()  # of the videos
        self._videos: dict[str, list[Path]] = {}  # name without folder and suffix -> files, or folders of frames
        self._frames: list[Path] = []  # in those folders
        self._shown: dict[str, tuple[str, str, Stretch | None]] = {}  # sample -> its video, its task, part of the video

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        self.find_videos()
        table, identity = super().open_table(streaming)
        return table, f"{identity} {self.videos_identity()}"

    def find_videos(self) -> None:
        """List the folder's video files and folders of frames. Raises UserError if there is no such folder."""
        given = expand_path("benchmark.videos", self.videos) if self.videos else self.source().folder
        if given is None or not given.is_dir():
            raise UserError(
                f"benchmark.videos={self.videos}: no such folder; unpack the video files of {self.path} and set "
                "benchmark.videos=/folder"
            )
        self._folder = folder = given
        files = sorted(folder.rglob("*"))
        self._frames = [file for file in files if file.suffix.lower() in FRAME_SUFFIXES]
        self._videos = {}
        for file in files:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                self._videos.setdefault(file.stem, []).append(file)
        files_alone = set(self._videos)  # a folder of pictures with a video file's name is ignored
        for part in dict.fromkeys(file.parent for file in self._frames):
            if part.name not in files_alone:
                self._videos.setdefault(part.name, []).append(part)

    def videos_identity(self) -> str:
        """Return hashes of the names and sizes of the video and frame files."""
        videos = (file for files in self._videos.values() for file in files if not file.is_dir())
        frames = f" frames {listing_identity(self._frames, self._folder)}" if self._frames else ""
        return f"videos {listing_identity(videos, self._folder)}{frames}"

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        name, task, stretch = scalar_text(self.value(row, "video")), self.task(row), self.stretch(row)
        self._shown[sample_id] = name, task, stretch
        image_id = self.medium(name, task) + ("" if stretch is None else f" {stretch}")
        return Sample(**(vars(sample) | {"image_id": image_id, "media": "video"}))

    def task(self, row: dict[str, Any]) -> str:
        """Return the task that, beside a video's name, decides its file; "" if the name suffices."""
        return ""

    def medium(self, name: str, task: str) -> str:
        """Return a name that rows about one video share, and no others."""
        return name

    def stretch(self, row: dict[str, Any]) -> Stretch | None:
        """Return the part of the video that a row asks about; None for all of it. Raises BadSample."""
        start, end = self.value(row, "start"), self.value(row, "end")
        if start is None or end is None:
            return None
        try:
            return Stretch(float(start), float(end))
        except (TypeError, ValueError) as error:
            raise BadSample(f"its start {start} and end {end} are no seconds") from error

    def decode(self, sample: Sample) -> list[Image]:
        given, task, stretch = self._shown[sample.id]
        file = self.find(given, task)
        if file.is_dir():
            return read_frames(file, self.num_frames, self.frames_per_second, stretch, self.frames, self.orientation)
        return decode_frames(file, self.num_frames, stretch, self.frames, self.orientation)

    def files(self, sample: Sample) -> list[str]:
        return [self._shown[sample.id][0]] if sample.id in self._shown else []

    def find(self, given: str, task: str = "") -> Path:
        """Return the one video file or folder of frames that a row names. Raises BadSample.

        Of files of one name in several folders, the one whose path ends as the row says, suffix included, is taken;
        a row that says less matches none of them.
        """
        path = Path(given)
        called = path.with_name(self.file_name.replace("{video}", path.name)) if path.name else path
        names = dict.fromkeys([str(called), str(path)])
        alike = [
            file for name in dict.fromkeys(_bare(Path(n)).name for n in names) for file in self._videos.get(name, [])
        ]
        files = next((found for name in names if (found := self.among(_ending(name, alike), task))), [])
        if len(files) == 1:
            return files[0]
        listed = ", ".join(str(file.relative_to(self._folder)) for file in (files or alike)[:4])
        if files:
            raise BadSample(
                f"its video {given} is there several times ({listed}): name the folder in the row, or give one of them "
                "as benchmark.videos"
            )
        raise BadSample(f"its video {called} is missing" + (f" (there is {listed}, elsewhere)" if alike else ""))

    def among(self, files: list[Path], task: str) -> list[Path]:
        """Return those of the files of one name that a row of `task` may mean."""
        return files


def _ending(name: str, files: list[Path]) -> list[Path]:
    """Return the files whose path ends with `name`, suffixes ignored; those of its suffix alone, if there are any."""
    wanted = Path(name.lstrip("/"))
    found = [file for file in files if f"/{_bare(file)}".endswith(f"/{_bare(wanted)}")]
    return [file for file in found if file.name == wanted.name] or found


def _bare(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() in VIDEO_SUFFIXES else file


@dataclass
class VideoChoice(VideoBenchmark, MultipleChoice):
    """Multiple choice about videos: Video-MME, MVBench, EgoSchema, NExT-QA."""


CUT = "_segment"  # suffix of folders whose videos are already cut


@dataclass
class MvBench(VideoChoice):
    """MVBench. tasks: the configs to ask; a row's task is its column `table`. If `config` is given, it alone is asked.

    folders: task -> ends of the paths of the folders with its videos, one for each revision of the dataset: several
    tasks' folders hold different videos of one name.

    cut: the tasks whose videos the official evaluation cuts to the row's seconds, roles `start` and `end`. Revision
    `video` of the dataset has them already cut, in folders such as "Charades_segment"; these are not cut again.
    """

    tasks: list = field(default_factory=list)
    folders: dict = field(default_factory=dict)
    cut: list = field(default_factory=list)

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        if self.config is not None or not self.tasks:
            return super().open_table(streaming)
        self.find_videos()
        opened = {
            task: Source(self.path, self.fallback, task, self.split, self.revision).open(streaming)
            for task in self.tasks
        }
        identity = " ".join(identity for _, identity in opened.values())
        return ConcatenatedTable(
            {task: table for task, (table, _) in opened.items()}
        ), f"{identity} {self.videos_identity()}"

    def task(self, row: dict[str, Any]) -> str:
        return row.get("table", self.config) or ""

    def medium(self, name: str, task: str) -> str:
        return name if self.config is not None else f"{self.folders.get(task, [task])[0]}/{name}"

    def among(self, files: list[Path], task: str) -> list[Path]:
        for folder in self.folders.get(task, []):
            if own := [file for file in files if f"/{folder}/" in str(file)]:
                return own
        if self.config is not None:  # all given videos are this task's, in any folder
            return files
        others = [folder for folders in self.folders.values() for folder in folders]
        return [file for file in files if not any(f"/{folder}/" in str(file) for folder in others)]

    def stretch(self, row: dict[str, Any]) -> Stretch | None:
        if self.task(row) not in self.cut:
            return None
        parts = self.find(scalar_text(self.value(row, "video")), self.task(row)).parent.parts
        return None if any(part.endswith(CUT) for part in parts) else super().stretch(row)


@dataclass
class NextQaOpen(VideoBenchmark):
    """Open-ended NExT-QA. Roles: category, the question's type (CW, DC, ...; some types need exact words), and
    other_answer, a second accepted answer, if there is one."""

    metric: ClassVar[Metric] = wups.METRIC

    def load(self, part: bool = False) -> list[Sample]:
        wups.load_wordnet()  # else scoring the first answer would fail
        return super().load(part)

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = answer_texts(self.value(row, "answer")) + answer_texts(self.value(row, "other_answer"))
        return super().extra(row) | {"answers": [answer for answer in answers if answer]}

    def match(self, prediction: str, sample: Sample) -> float:
        return wups.score(prediction, sample.extra["answers"], sample.category, wups.load_wordnet())
