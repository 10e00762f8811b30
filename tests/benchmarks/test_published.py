"""Prompts, caps of answers and frames, as the published scripts have them.

Read from LLaVA's eval files at 32cebc3, FasterVLM's branches main and video, Video-LLaVA at 984e65b, and lmms-eval at
75571cf: tasks/*/utils.py and their YAML.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.fixtures import bar, write_video
from tests.benchmarks.loading import build
from vlmprune.benchmarks.frames import SPACINGS, Stretch, linspace
from vlmprune.config.registry import find_choices, read_choice
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.plan import make_plan

WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
ASKED = "what Color is the TV? "
# benchmark -> how the question above is asked (LLaVA's file or script; where there is none, lmms-eval's)
OPEN = {
    "activitynet": ASKED,
    "chartqa": f"{ASKED}\nAnswer the question with a single word.",
    "docvqa": ASKED + WORD,
    "gqa": ASKED + WORD,
    "infovqa": ASKED + WORD,
    "llava_wild": ASKED,
    "mme": ASKED.strip() + WORD,
    "mmvet": ASKED,
    "msrvtt": ASKED,
    "msvd": ASKED,
    "nextqa_oe": f"{ASKED.strip()}\nAnswer a question using a short phrase or sentence.",
    "ocrbench": ASKED.strip(),
    "okvqa": ASKED + UNANSWERABLE + WORD,
    "pope": ASKED.strip() + WORD,
    "textvqa": f"What color is the tv? {WORD}",
    "tgif": ASKED,
    "vizwiz": f"What color is the tv? {UNANSWERABLE}{WORD}",
    "vqav2": ASKED + WORD,
}
CAPS = {  # LLaVA's script; where there is none, what lmms-eval sets; its models' 1,024 where it sets none
    1024: [
        *("activitynet", "msrvtt", "msvd", "tgif", "nextqa_mc", "nextqa_oe"),
        *("mmbench", "mmbench_cn", "mmstar", "mmvet", "llava_wild", "okvqa"),
    ],
    128: ["textvqa", "textvqa_ocr", "vizwiz", "seed", "pope", "mmmu", "ocrbench"],
    64: ["coco_caption", "flickr30k", "nocaps"],
    32: ["docvqa", "infovqa"],
    16: ["ai2d", "chartqa", "egoschema", "gqa", "mme", "mvbench", "realworldqa", "scienceqa", "videomme", "vqav2"],
}


@pytest.mark.parametrize("name", OPEN)
def test_a_question_is_asked_as_published(name: str) -> None:
    benchmark = build([f"benchmark={name}", *(["benchmark.path=x"] if name in ("msrvtt", "msvd", "tgif") else [])])
    from vlmprune.benchmarks.base import Sample

    asked = benchmark.question({"question": ASKED})
    assert benchmark.prompt(Sample("1", "1", asked, "", "all")) == OPEN[name]


def test_the_other_published_prompt_of_activitynet() -> None:
    suffix = "benchmark.suffix='? Answer the question using a single word or phrase.'"
    settings = ["benchmark.capitalize=true", suffix, "benchmark.max_new_tokens=64"]
    benchmark = build(["benchmark=activitynet", *settings])
    asked = benchmark.question({"question": "is the athlete wearing Trousers"}) + benchmark.suffix
    assert asked == "Is the athlete wearing trousers? Answer the question using a single word or phrase."


def test_caps_and_frames_are_those_published() -> None:
    found: dict[int, list[str]] = {}
    for name in find_choices("benchmark"):
        assert read_choice("benchmark", name).get("frames", "linspace") == "linspace"
        if name not in ("folder", "scenes"):
            found.setdefault(read_choice("benchmark", name)["max_new_tokens"], []).append(name)
    assert {cap: sorted(names) for cap, names in found.items()} == {cap: sorted(names) for cap, names in CAPS.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16, 64])
def test_frames_are_numpys(count: int) -> None:
    for frames in range(1, 400):
        assert linspace([float(k) for k in range(frames)], count) == list(np.linspace(0, frames - 1, count, dtype=int))


def test_frames_of_a_stretch_and_of_nothing() -> None:
    seconds = [0.5 * k for k in range(20)]
    assert linspace(seconds, 8) == [0, 2, 5, 8, 10, 13, 16, 19]  # 19 / 7 = 2.71, rounded down
    assert linspace(seconds, 2, Stretch(2.0, 3.9)) == [4, 7]
    assert linspace([], 3) == []


def test_the_spacing_is_a_setting_and_part_of_the_run(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", frames=9)
    row = {"image": "clip.mp4", "question": "What moves?", "answer": "a disc"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    settings = ["benchmark=folder", f"benchmark.path={tmp_path}", "benchmark.num_frames=3", "method=none", "device=cpu"]
    seen, directories, comparable = [], set(), set()
    for spacing in SPACINGS:
        plan = make_plan(compose_run([*settings, f"benchmark.frames={spacing}"]))
        seen.append([bar(frame) for frame in plan.benchmark.images(plan.samples[0])])
        directories.add(plan.directory.path)
        comparable.add(plan.comparable["benchmark"])
    assert seen == [[0, 4, 8], [1, 4, 7]] and len(directories) == len(comparable) == 2
