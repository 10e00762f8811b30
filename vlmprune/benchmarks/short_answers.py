"""Benchmarks with short answers: VQAv2 and its kin, GQA, documents, captions, POPE and MME."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlmprune.benchmarks.base import BadSample, Metric, Sample
from vlmprune.benchmarks.columns import answer_texts, id_text, scalar_text
from vlmprune.benchmarks.hub import AcceptedAnswers, HubBenchmark
from vlmprune.benchmarks.media import decode_image
from vlmprune.benchmarks.row_files import read_rows
from vlmprune.benchmarks.scoring import captions, ocrbench, text_match, vqa, yes_no
from vlmprune.benchmarks.scoring.text_match import gqa_match
from vlmprune.benchmarks.sources import Source
from vlmprune.benchmarks.tables import MemoryTable, Table
from vlmprune.errors import UserError
from vlmprune.files import expand_path
from vlmprune.hashing import content_identity

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Vqa(AcceptedAnswers):
    """VQA accuracy by VQA's own script, of predictions as LLaVA submits them. Role `answer`: the annotators'."""

    metric: ClassVar[Metric] = vqa.METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        # Blank answers stay: the official script counts an annotator who wrote nothing.
        return super().extra(row) | {"answers": answer_texts(self.value(row, "answer"))}

    def match(self, prediction: str, sample: Sample) -> float:
        return self.accuracy(prediction, sample.extra["answers"])

    def accuracy(self, prediction: str, answers: list[str]) -> float:
        """Return the agreement with the annotators, 0..1."""
        return vqa.vqa_accuracy(vqa.evalai_answer(prediction), answers)


@dataclass
class EvalAiVqa(Vqa):
    """VQA accuracy with EvalAI's normalisation of prediction and answers, as in VizWiz's and TextVQA's scorers."""

    def accuracy(self, prediction: str, answers: list[str]) -> float:
        return vqa.evalai_accuracy(prediction, answers)


@dataclass
class TextVqa(EvalAiVqa):
    """TextVQA (Singh et al., CVPR 2019). ocr: append the dataset's OCR tokens, as for LLaVA-1.5's published number."""

    ocr: bool = False

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | ({"ocr_tokens": answer_texts(self.value(row, "ocr_tokens"))} if self.ocr else {})

    def prompt(self, sample: Sample) -> str:
        hint = f"\nReference OCR token: {', '.join(sample.extra['ocr_tokens'])}" if self.ocr else ""
        return self.prefix + sample.question + hint + self.suffix


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
        self._image_row = {scalar_text(row["id"]): index for index, row in enumerate(self._images.rows(["id"]))}
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


@dataclass
class DocVqa(AcceptedAnswers):
    """DocVQA and InfographicVQA, scored by ANLS."""

    metric: ClassVar[Metric] = text_match.ANLS

    def match(self, prediction: str, sample: Sample) -> float:
        return text_match.anls(prediction, sample.extra["answers"])


@dataclass
class ChartQa(HubBenchmark):
    """ChartQA, scored by relaxed accuracy; human and augmented questions are the categories."""

    metric: ClassVar[Metric] = text_match.RELAXED_ACCURACY

    def match(self, prediction: str, sample: Sample) -> float:
        return text_match.relaxed_match(prediction, sample.answer)


@dataclass
class OcrBench(AcceptedAnswers):
    """OCRBench: 1,000 questions, scored by the number of right answers. Role `dataset`: the source of a question."""

    metric: ClassVar[Metric] = ocrbench.METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"dataset": str(self.value(row, "dataset") or "")}

    def match(self, prediction: str, sample: Sample) -> float:
        return ocrbench.contains_answer(prediction, sample.extra["answers"], sample.extra["dataset"])

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return ocrbench.summarise(rows)

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest


@dataclass
class Captions(AcceptedAnswers):
    """Captions scored by CIDEr against several references, the role `answer`.

    A single caption has no score, because the weights of its n-grams come from the whole set.
    """

    metric: ClassVar[Metric] = captions.METRIC
    resampled: ClassVar[bool] = False
    required: ClassVar[tuple[str, ...]] = ("answer",)

    def load(self, part: bool = False) -> list[Sample]:
        if importlib.util.find_spec("pycocoevalcap") is None:  # else scoring would fail after all answers
            raise UserError("CIDEr needs pycocoevalcap: pip install 'vlmprune[captions]'")
        return super().load(part)

    def match(self, prediction: str, sample: Sample) -> None:
        return None

    def scorable(self, rows: list[dict[str, Any]]) -> bool:
        return all(row["answer"] for row in rows)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return captions.summarise(rows)

    def scoring_tools(self) -> dict[str, str]:
        return {"tokeniser": captions.tokeniser()}

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None


AUTHORS = "*_pope_*.json"


@dataclass
class Pope(HubBenchmark):
    """POPE (Li et al., EMNLP 2023): presence of objects in an image. Role `category`: random, popular, adversarial.

    path: also one of the authors' files, such as coco_pope_random.json, or a folder of the three: an object a line
    with question_id, image, text and label.
    """

    metric: ClassVar[Metric] = yes_no.POPE_F1

    def open_table(self, streaming: bool) -> tuple[Table, str]:
        self.source()  # refuses an empty path, which would be the working folder
        path = expand_path("benchmark.path", self.path)
        files = sorted(path.glob(AUTHORS) if path.is_dir() else [path] if path.match(AUTHORS) else [])
        if not files:
            return super().open_table(streaming)
        return self.with_images(
            MemoryTable([row for file in files for row in read_authors_file(file)]), content_identity(files)
        )

    def match(self, prediction: str, sample: Sample) -> float:
        return yes_no.score_pope(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return yes_no.summarise_pope(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None


def read_authors_file(file: Path) -> list[dict[str, Any]]:
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

    metric: ClassVar[Metric] = yes_no.MME_PERCEPTION

    def question(self, row: dict[str, Any]) -> str:
        # The published prompt asks for a single word instead.
        return super().question(row).replace(" Please answer yes or no.", "").strip()

    def group(self, row: dict[str, Any]) -> str:
        return id_text(self.value(row, "image_id"))  # accuracy+ needs both questions

    def match(self, prediction: str, sample: Sample) -> float:
        return yes_no.score_mme(prediction, sample.answer)

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return yes_no.summarise_mme(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None

    def main_score(self, metrics: dict[str, float]) -> float:
        return metrics[self.metric.name] / self.metric.highest
