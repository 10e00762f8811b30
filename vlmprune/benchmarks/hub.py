"""Benchmarks of one `datasets` split: the YAML assigns columns to roles, a subclass scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.columns import (
    TYPES,
    TabularBenchmark,
    answer_texts,
    check_columns,
    check_values,
    has_value,
    id_text,
    named_columns,
    scalar_text,
    top_level,
)
from vlmprune.benchmarks.media import content_key, decode_images, named_files
from vlmprune.benchmarks.sources import Source
from vlmprune.benchmarks.stored import file_name, stored_picture
from vlmprune.benchmarks.submission import FORMATS
from vlmprune.benchmarks.tables import Table
from vlmprune.config.typecheck import check_type
from vlmprune.errors import UserError, nearest
from vlmprune.files import expand_path
from vlmprune.hashing import content_identity

if TYPE_CHECKING:
    from PIL.Image import Image


MEDIA = ("image",)  # roles with large cells, read one by one when the sample is asked


@dataclass
class HubBenchmark(TabularBenchmark):
    """Base of all benchmarks on the hub; the data may come from any source that `Source` reads.

    Rows with one image_id share the encoding of their images, so all of them must store the same images as the first:
    a row that does not is a bad sample, because the column names something other than pictures. where: column -> value
    of the rows that belong to the benchmark. submission: the name of a `submission_format`, which makes the file for
    the authors' server. streaming: read a hub dataset's parquet files in place instead of downloading the split; null
    does so if only a subset is asked. pictures: the folder of the image files that rows name; null: the folder of the
    rows' file.
    """

    path: str = ""
    fallback: str | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None
    submission: str | None = None
    where: dict = field(default_factory=dict)
    streaming: bool | None = None
    pictures: str | None = None

    required: ClassVar[tuple[str, ...]] = ("question", "answer")  # roles that every sample must have a value for

    def __post_init__(self) -> None:
        super().__post_init__()
        for column in self.where:
            check_type("benchmark.where", column, str)
        if self.submission is not None and self.submission not in FORMATS:
            raise UserError(
                f"benchmark.submission={self.submission}: is no submission format{nearest(self.submission, FORMATS)}; "
                f"allowed: {', '.join(sorted(FORMATS))}, and functions of yours under @submission_format in the module "
                "of the class that _target_ names"
            )
        self._table: Table
        self._identity = ""
        self._row: dict[str, int] = {}
        self._first: dict[str, str] = {}  # image_id -> the first sample that has it
        self._stored: dict[str, str] = {}  # image_id -> hash of what that sample stores
        self._times: Counter[str] = Counter()  # how often an id occurred
        self._labelled = True
        self._checked = tuple(role for role in TYPES if role in self.columns)
        self._bad: dict[str, str] = {}  # sample -> the reason why it is bad

    def source(self) -> Source:
        """Return the source of the data. Raises UserError for a benchmark that is not on the hub if `path` is empty."""
        if not self.path:
            raise UserError("benchmark.path is empty: these data are not on the hub; give a folder or a file")
        return Source(self.path, self.fallback, self.config, self.split, self.revision)

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        """Return the rows, and the identity of the rows and of the image files that they name."""
        return self.with_images(*self.source().open(streaming))

    def with_images(self, table: Table, identity: str) -> tuple[Table, str]:
        """Return the table, and its identity joined with that of the image files that it names."""
        named = [table.column(column) for column in self.existing("image", table)]
        files = [file for cells in named for file in named_files(cells, self.image_folder())]
        return table, f"{identity} {content_identity(files)}" if files else identity

    def image_folder(self) -> Path | None:
        """Return the folder that names of image files are relative to; None if there is none. Raises UserError."""
        if self.pictures is None:
            return self.source().folder
        folder = expand_path("benchmark.pictures", self.pictures)
        if not folder.is_dir():
            raise UserError(f"benchmark.pictures={self.pictures}: no such folder; expected that of the images")
        return folder

    def load(self, part: bool = False) -> list[Sample]:
        self._table, self._identity = self.open_table(part if self.streaming is None else self.streaming)
        settings = {f"columns.{role}": named for role, named in self.columns.items()} | {"where": list(self.where)}
        check_columns(settings, self._table.columns, self.path)
        named = [named_columns(named) for role, named in self.columns.items() if role not in MEDIA]
        text = {top_level(column) for columns in named for column in columns} | set(self.where)
        rows = list(self._table.rows(sorted(text & set(self._table.columns))))
        # A test split without public answers is asked too: its answers go to the authors' server.
        self._labelled = any(has_value(self.value(row, "answer")) for row in rows)
        samples: dict[str, Sample] = {}
        for index, row in enumerate(rows):
            if self.selects(row):
                sample_id = self._unique_id(row, index, samples)
                self._row[sample_id] = index
                try:
                    samples[sample_id] = self.sample(row, sample_id)
                except BadSample as error:
                    # It stays in the list; `images` raises the reason why it cannot be used.
                    samples[sample_id] = Sample(sample_id, f"broken {sample_id}", "", "", "")
                    self._bad[sample_id] = str(error)
                self._first.setdefault(samples[sample_id].image_id, sample_id)
        if not samples:
            raise UserError(f"benchmark.path={self.path}: no row of split '{self.split}' belongs to this benchmark")
        return group_by_media(list(samples.values()))

    def identity(self) -> str:
        return self._identity

    def submission_file(self, rows: list[dict[str, Any]]) -> tuple[str, bytes] | None:
        return None if self.submission is None else FORMATS[self.submission](rows)

    def images(self, sample: Sample) -> list[Image]:
        if sample.id in self._bad:
            raise BadSample(self._bad[sample.id])
        return self.decode(sample)

    def decode(self, sample: Sample) -> list[Image]:
        """Return the images of a sample whose text is complete. Raises BadSample."""
        folder = self.image_folder()
        return decode_images(self._cells(sample.id), folder, self.orientation)

    def files(self, sample: Sample) -> list[str]:
        folder = self.image_folder()
        stored = [(value, stored_picture(value, folder)) for value in self._cells(sample.id)]
        return [str(file_name(value)) for value, picture in stored if isinstance(picture, Path)]

    def shares_media(self, sample: Sample) -> bool:
        return self._first[sample.image_id] != sample.id and bool(self.existing("image", self._table))

    def check_media(self, sample: Sample) -> None:
        if not self.shares_media(sample):
            return
        first = self._first[sample.image_id]
        if sample.image_id not in self._stored:
            self._stored[sample.image_id] = content_key(self._cells(first))
        if content_key(self._cells(sample.id)) != self._stored[sample.image_id]:
            raise BadSample(
                f"its image is not that of sample {first}, which has the same image_id {sample.image_id}: "
                f"benchmark.columns.image_id={self.columns.get('image_id')} does not name pictures (null: none does)"
            )

    def _cells(self, sample_id: str) -> list[Any]:
        """Return a sample's images as stored, encoded bytes or paths; [None] if its image columns are empty."""
        cells = list(self.image_cells(sample_id).values())
        given = [value for cell in cells for value in (cell if isinstance(cell, list) else [cell])]
        check_values(lambda _: given, ("image",))
        return given or [None] * bool(self.existing("image", self._table))

    def image_cells(self, sample_id: str) -> dict[int, Any]:
        """Return the number, from 1, of each column of the role `image` -> its cell.

        Several columns hold up to so many images; empty ones are left out.
        """
        columns = dict(enumerate(map(top_level, named_columns(self.columns.get("image"))), 1))
        there = {k: column for k, column in columns.items() if column in self._table.columns}
        cells = {k: self._table.cell(self._row[sample_id], column) for k, column in there.items()}
        return {k: cell for k, cell in cells.items() if has_value(self.given("image", cell))}

    def selects(self, row: dict[str, Any]) -> bool:
        """Return True if a row of the split belongs to the benchmark."""
        return all(scalar_text(row.get(column)) == scalar_text(value) for column, value in self.where.items())

    def sample(self, row: dict[str, Any], sample_id: str) -> Sample:
        """Return the sample of one row's text columns. Raises BadSample if a value is absent or of another type."""
        check_values(lambda role: self.value(row, role), self._checked)
        for role in self.required:
            value = self.value(row, role)
            if not has_value(value) and not (role == "answer" and not self._labelled):
                blank = isinstance(value, str | list) and any(isinstance(part, str) for part in value)
                raise BadSample(f"its {role} is {'empty' if blank else 'absent'} (column {self.columns.get(role)})")
        answer = self.answer(row) if self._labelled else ""
        if self._labelled and not answer and "answer" in self.required:
            raise BadSample(f"its answer is empty (column {self.columns.get('answer')})")
        return Sample(
            id=sample_id,
            image_id=self.image_id(row) or sample_id,
            question=self.question(row),
            answer=answer,
            category=id_text(self.value(row, "category")) or "all",
            extra=self.extra(row),
            group=self.group(row),
        )

    def _unique_id(self, row: dict[str, Any], index: int, taken: dict[str, Sample]) -> str:
        """Return the dataset's id of a row; a repeated one gets "#2", because a run is resumed by ids."""
        try:
            check_values(lambda role: self.value(row, role), ("id",))
            name = id_text(self.value(row, "id")) or str(index)
        except BadSample:  # `sample` checks the id again and keeps the reason
            name = str(index)
        self._times[name] += 1
        unique = name if self._times[name] == 1 else f"{name}#{self._times[name]}"
        return unique if unique not in taken else f"{unique}#{index}"


def group_by_media(samples: list[Sample]) -> list[Sample]:
    """Return the samples with those about the same media adjacent, otherwise in order: files are read fastest so."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_id, []).append(sample)
    return [sample for group in groups.values() for sample in group]


@dataclass
class AcceptedAnswers(HubBenchmark):
    """Base of benchmarks whose role `answer` holds one or several answers, of annotators or captioners.

    extra["answers"] holds all of them except blank ones, which an empty prediction would match.
    """

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        answers = answer_texts(self.value(row, "answer"))
        return super().extra(row) | {"answers": [answer for answer in answers if answer.strip()]}
