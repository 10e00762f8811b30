"""Benchmarks whose open answers a language model judges: MM-Vet, LLaVA-Bench in the wild, and video questions."""

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
    """MM-Vet. Role `capability`: the capabilities that a question needs."""

    metric: ClassVar[Metric] = mmvet.METRIC
    protocol: ClassVar[Protocol] = mmvet.PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"capability": joined(self.value(row, "capability")).replace("/", ",")}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return mmvet.summarise(rows)


@dataclass
class LlavaWild(HubBenchmark):
    """LLaVA-Bench in the wild. Role `caption`: the description of the image that the judge receives."""

    metric: ClassVar[Metric] = llava_wild.METRIC
    protocol: ClassVar[Protocol] = llava_wild.PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"caption": self.value(row, "caption") or ""}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return llava_wild.summarise(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None  # the score is a ratio of two sums


@dataclass
class VideoQa(VideoBenchmark):
    """TGIF-QA, MSVD-QA, MSRVTT-QA, ActivityNet-QA, judged as in Video-ChatGPT and Video-LLaVA."""

    metric: ClassVar[Metric] = video_qa.METRIC
    protocol: ClassVar[Protocol] = video_qa.PROTOCOL

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return video_qa.summarise(rows)
