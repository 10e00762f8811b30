"""GQA (Hudson & Manning, CVPR 2019), test-dev balanced: exact match, as its official script scores it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import Benchmark, Sample, content_hash, load_hub_dataset
from vlmprune.benchmarks.scoring.exact import exact_match

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Gqa(Benchmark):
    """Questions and images are two configs of one dataset, joined on the image's id.

    path: a hub dataset or a folder with the same layout; fallback: the dataset's former name.
    """

    path: str = ""
    fallback: str = ""

    metric: ClassVar[str] = "accuracy"
    _images: Any = field(default=None, init=False, repr=False)
    _row_of_image: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _identity: str = field(default="", init=False, repr=False)

    def load(self) -> list[Sample]:
        rows = load_hub_dataset(self.path, self.fallback, "testdev_balanced_instructions", "testdev")
        self._images = load_hub_dataset(self.path, self.fallback, "testdev_balanced_images", "testdev")
        self._row_of_image = {image_id: index for index, image_id in enumerate(self._images["id"])}
        self._identity = content_hash(rows.select_columns(["id", "imageId", "question", "answer"]), self._images)
        rows = rows.sort("imageId")  # the questions about one image stand together
        return [
            Sample(str(row["id"]), row["imageId"], row["question"], row["answer"], row["types"]["structural"])
            for row in rows
        ]

    def image(self, image_id: str) -> Image:
        return self._images[self._row_of_image[image_id]]["image"].convert("RGB")

    def identity(self) -> str:
        return self._identity

    def score(self, prediction: str, sample: Sample) -> float:
        return exact_match(prediction, sample.answer)
