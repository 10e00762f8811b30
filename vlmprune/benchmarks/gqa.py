"""GQA (Hudson & Manning, CVPR 2019), test-dev balanced, scored by exact match as in its official script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmprune.benchmarks.base import BadSample, Sample
from vlmprune.benchmarks.columns import shown
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.media import decode_image
from vlmprune.benchmarks.scoring.exact import gqa_match
from vlmprune.benchmarks.source import Source
from vlmprune.benchmarks.tables import Table
from vlmprune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Gqa(HubBenchmark):
    """GQA: questions and images are two configs of one dataset, joined on the image's id.

    images_config: the config with the columns `id` and `image`.
    """

    images_config: str = "testdev_balanced_images"

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        questions, identity = super().open_table(streaming)
        source = Source(self.path, self.fallback, self.images_config, self.split, self.revision)
        self._images, images_identity = source.open(streaming)
        if missing := {"id", "image"} - set(self._images.columns):
            raise UserError(f"benchmark.images_config={self.images_config}: has no column {', '.join(sorted(missing))}")
        self._image_row = {shown(row["id"]): index for index, row in enumerate(self._images.rows(["id"]))}
        return questions, f"{identity} {images_identity}"

    def decode(self, sample: Sample) -> list[Image]:
        if sample.image_id not in self._image_row:
            raise BadSample(f"its image {sample.image_id} is missing")
        cell = self._images.cell(self._image_row[sample.image_id], "image")
        return [decode_image(cell, orientation=self.orientation)]

    def files(self, sample: Sample) -> list[str]:
        return [sample.image_id]

    def match(self, prediction: str, sample: Sample) -> float:
        return gqa_match(prediction, sample.answer)
