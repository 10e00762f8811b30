"""Open answers that a language model judges: MM-Vet, LLaVA-Bench in the wild, and open-ended questions about videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.columns import joined
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import llava_wild, mmvet, video_qa
from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Protocol
from vlmprune.benchmarks.video import VideoBenchmark


@dataclass
class MmVet(HubBenchmark):
    """MM-Vet. The role `capability` is what a question needs; the one it starts with is the category."""

    metric: ClassVar[Metric] = mmvet.METRIC
    protocol: ClassVar[Protocol] = mmvet.PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"capability": joined(self.value(row, "capability")).replace("/", ",")}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return mmvet.summarise(rows)


@dataclass
class LlavaWild(HubBenchmark):
    """LLaVA-Bench in the wild. The role `caption` describes the image to the judge."""

    metric: ClassVar[Metric] = llava_wild.METRIC
    protocol: ClassVar[Protocol] = llava_wild.PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"caption": self.value(row, "caption") or ""}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return llava_wild.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None  # a ratio of two sums


@dataclass
class VideoQa(VideoBenchmark):
    """TGIF-QA, MSVD-QA, MSRVTT-QA, ActivityNet-QA, judged as Video-ChatGPT and Video-LLaVA do."""

    metric: ClassVar[Metric] = video_qa.METRIC
    protocol: ClassVar[Protocol] = video_qa.PROTOCOL

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return video_qa.summarise(rows)
