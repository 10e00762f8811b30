"""Benchmarks whose open answers a language model judges: MM-Vet, LLaVA-Bench in the wild, and video questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmprune.benchmarks.base import Metric, Protocol
from vlmprune.benchmarks.columns import id_text
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.benchmarks.scoring import judge_protocols
from vlmprune.benchmarks.video import VideoBenchmark


@dataclass
class MmVet(HubBenchmark):
    """MM-Vet. Role `capability`: the capabilities that a question needs."""

    metric: ClassVar[Metric] = judge_protocols.MMVET_METRIC
    protocol: ClassVar[Protocol] = judge_protocols.MMVET_PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"capability": id_text(self.value(row, "capability")).replace("/", ",")}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return judge_protocols.summarise_mmvet(rows)


@dataclass
class LlavaWild(HubBenchmark):
    """LLaVA-Bench in the wild. Role `caption`: the description of the image that the judge receives."""

    metric: ClassVar[Metric] = judge_protocols.LLAVA_WILD_METRIC
    protocol: ClassVar[Protocol] = judge_protocols.LLAVA_WILD_PROTOCOL

    def extra(self, row: dict[str, Any]) -> dict[str, Any]:
        return super().extra(row) | {"caption": self.value(row, "caption") or ""}

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return judge_protocols.summarise_llava_wild(rows)

    def units(self, rows: list[dict[str, Any]]) -> None:
        return None  # the score is a ratio of two sums


@dataclass
class VideoQa(VideoBenchmark):
    """TGIF-QA, MSVD-QA, MSRVTT-QA, ActivityNet-QA, judged as in Video-ChatGPT and Video-LLaVA."""

    metric: ClassVar[Metric] = judge_protocols.VIDEO_QA_METRIC
    protocol: ClassVar[Protocol] = judge_protocols.VIDEO_QA_PROTOCOL

    def aggregate(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        return judge_protocols.summarise_video_qa(rows)
