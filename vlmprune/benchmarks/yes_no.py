"""Yes-or-no questions with metrics of the whole set: POPE and MME."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.columns import joined
from vlmprune.benchmarks.hashing import content_identity
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.row_files import read_rows
from vlmprune.benchmarks.scoring import mme, pope
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.tables import Listed, Table
from vlmprune.files import expanded

AUTHORS = "*_pope_*.json"


@dataclass
class Pope(HubBenchmark):
    """POPE (Li et al., EMNLP 2023): presence of objects in an image. Role `category`: random, popular, adversarial.

    path: also one of the authors' files, such as coco_pope_random.json, or a folder of the three: an object a line
    with question_id, image, text and label.
    """

    metric: ClassVar[Metric] = pope.METRIC

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        self.source()  # refuses an empty path, which would be the working folder
        path = expanded("benchmark.path", self.path)
        files = sorted(path.glob(AUTHORS) if path.is_dir() else [path] if path.match(AUTHORS) else [])
        if not files:
            return super().open_table(streaming)
        return self.with_images(Listed([row for file in files for row in authors_rows(file)]), content_identity(files))

    def match(self, prediction: str, sample: Sample) -> float:
        return pope.score(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return pope.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None


def authors_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of one of the authors' files under the hub's column names; the file's name has the category."""
    category = file.stem.rpartition("_")[2]
    return [
        {
            "question_id": row.get("question_id"),
            "image_source": row.get("image"),
            "image": row.get("image"),
            "question": row.get("text"),
            "answer": row.get("label"),
            "category": category,
        }
        for row in read_rows(file)
    ]


@dataclass
class Mme(HubBenchmark):
    """MME (Fu et al., 2023): two questions about every image, which share the role `image_id`."""

    metric: ClassVar[Metric] = mme.METRIC

    def question(self, row: dict[str, Any]) -> str:
        # The published prompt asks for a single word instead.
        return super().question(row).replace(" Please answer yes or no.", "").strip()

    def group(self, row: dict[str, Any]) -> str:
        return joined(self.value(row, "image_id"))  # accuracy+ needs both questions

    def match(self, prediction: str, sample: Sample) -> float:
        return mme.score(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return mme.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest
