"""Short answers with several annotators: VQAv2, VizWiz, TextVQA, OK-VQA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.accepted import AcceptedAnswers
from vlmprune.benchmarks.base import Sample
from vlmprune.benchmarks.columns import texts
from vlmprune.benchmarks.scoring import vqa
from vlmprune.benchmarks.scoring.metric import Metric


@dataclass
class Vqa(AcceptedAnswers):
    """VQA accuracy by VQA's own script, of predictions as LLaVA submits them. Role `answer`: the annotators'."""

    metric: ClassVar[Metric] = vqa.METRIC

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        # Blank answers stay: the official script counts an annotator who wrote nothing.
        return super().extra(row) | {"answers": texts(self.value(row, "answer"))}

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
        return super().extra(row) | ({"ocr_tokens": texts(self.value(row, "ocr_tokens"))} if self.ocr else {})

    def prompt(self, sample: Sample) -> str:
        hint = f"\nReference OCR token: {', '.join(sample.extra['ocr_tokens'])}" if self.ocr else ""
        return self.prefix + sample.question + hint + self.suffix
