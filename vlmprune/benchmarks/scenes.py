"""The embedded benchmark: generated scenes whose held-out test split ships in the wheel (vlmprune/tiny)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.benchmarks.scoring.text_match import exact_match

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Scenes(Benchmark):
    """Questions on attributes and relations, existence, counting, reading: see vlmprune/tiny/MODEL_CARD.md."""

    turned: ClassVar[bool] = False

    _rows: Any = field(default=None, init=False, repr=False)
    _row_of_image: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def load(self, part: bool = False) -> list[Sample]:
        from vlmprune.tiny.testset import load_test_split

        self._rows = load_test_split()
        text = self._rows.remove_columns("image")
        samples = []
        for index, row in enumerate(text):
            self._row_of_image.setdefault(row["image_id"], index)
            samples.append(Sample(row["question_id"], row["image_id"], row["question"], row["answer"], row["category"]))
        return samples

    def images(self, sample: Sample) -> list[Image]:
        return [self._rows[self._row_of_image[sample.image_id]]["image"].convert("RGB")]

    def identity(self) -> str:
        from vlmprune.tiny.testset import HASH_FILE

        return f"sha256:{HASH_FILE.read_text(encoding='utf-8').split()[0]}"

    def match(self, prediction: str, sample: Sample) -> float:
        return exact_match(prediction, sample.answer)
