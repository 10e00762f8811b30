"""Benchmark of a user's images or videos: a folder with questions.jsonl, without code or YAML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.benchmarks.columns import answer_texts, has_value
from vlmprune.benchmarks.frames import decode_frames, is_video
from vlmprune.benchmarks.hub import AcceptedAnswers
from vlmprune.benchmarks.scoring.text_match import exact_match
from vlmprune.benchmarks.sources import Source
from vlmprune.benchmarks.stored import file_name
from vlmprune.benchmarks.tables import Table
from vlmprune.errors import UserError
from vlmprune.files import expand_path

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 40  # characters of the folder's name in the run directory's name


@dataclass
class Folder(AcceptedAnswers, MultipleChoice):
    """Questions of a JSON-lines file. Keys: image (a file's name in the folder, or a list of pictures; a video or an
    animation is the only file of a question and is shown as frames), question, and where known answer (or a list of
    accepted ones), choices, category, id.

    Questions with choices are scored by the option's letter; their answer is the right option's text or letter. Others
    are scored by exact match, so a chat model must be asked for a short answer. suffix: text after a question without
    choices. choice_suffix: text after the choices. frames: as in `VideoBenchmark`.
    """

    questions: str = "questions.jsonl"
    choice_suffix: str = ""
    num_frames: int = 8
    frames: Literal["linspace", "middles"] = "linspace"

    required: ClassVar[tuple[str, ...]] = ("image", "question", "answer")

    def source(self) -> Source:
        if not self.path or not expand_path("benchmark.path", self.path).is_dir():
            raise UserError(f"benchmark.path={self.path}: no such folder; it must hold {self.questions} and the images")
        file = expand_path("benchmark.path", self.path) / self.questions
        if not file.is_file():
            raise UserError(
                f"benchmark.path={self.path}: it has no {self.questions}; there has to be one, an object per line with "
                "image, question and, where known, answer"
            )
        return Source(str(file))

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        table, identity = super().open_table(streaming)
        if "image" not in table.columns:
            raise UserError(f"{self.source().path}: no row has the key 'image'; there are: {', '.join(table.columns)}")
        return table, identity

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        sample = super().sample(row, sample_id)
        files = self._files(row["image"])
        video = any(is_video(file) for file in files)
        if video and len(files) > 1:  # the frames and the other files would pass for one video
            raise BadSample(f"its image names {len(files)} files, a video among them; a video is asked about alone")
        return Sample(**(vars(sample) | {"media": "video" if video else "image"}))

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        # Only a question without choices has several accepted answers.
        return MultipleChoice.extra(self, row) if self.choices(row) else super().extra(row)

    def answer(self, row: dict[str, Any]) -> str:
        if self.choices(row):
            return super().answer(row)
        return next((answer for answer in answer_texts(self.value(row, "answer")) if answer.strip()), "")

    def data_name(self) -> str:
        """Return the folder's name and six hex digits of its content: two folders may have one name."""
        content = hashlib.sha256(self.identity().encode()).hexdigest()
        return f"{expand_path('benchmark.path', self.path).resolve().name[:LONGEST]}-{content[:6]}"

    def prompt(self, sample: Sample) -> str:
        suffix = self.choice_suffix if sample.extra["choices"] else self.suffix
        return self.prefix + sample.question + self.options(sample) + suffix

    def decode(self, sample: Sample) -> list[Image]:
        if sample.media == "image":
            return super().decode(sample)
        (file,) = self._files(self._table.cell(self._row[sample.id], "image"))
        return decode_frames(file, self.num_frames, spacing=self.frames, orientation=self.orientation)

    def match(self, prediction: str, sample: Sample) -> float:
        if sample.extra["choices"]:
            return super().match(prediction, sample)
        return max(exact_match(prediction, answer) for answer in sample.extra["answers"])

    def _files(self, value: Any) -> list[Path]:
        folder = expand_path("benchmark.path", self.path)
        cells = value if isinstance(value, list) else [value]
        return [folder / str(file_name(cell)) for cell in cells if has_value(cell)]
