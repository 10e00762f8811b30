"""Records of encoded media on prediction lines, through each family's own preprocessing."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from tests.models.hub import load_saved
from tests.runs import run
from vlmprune.config.settings import compose_run
from vlmprune.evaluation.predictions import encoder_input

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind, count", [("image", 1), ("image", 2), ("video", 3)])
def test_slots_are_the_prompts_placeholders(folder, kind, count):
    loaded = load_saved(folder, prompt="chat_template")
    sizes = [(90, 60)] * count if kind == "video" else [(90, 60), (60, 110)][:count]
    pictures = [Image.new("RGB", size) for size in sizes]
    media = loaded.preprocessor.media(pictures, kind)
    inputs = loaded.preprocessor.batch(["what?"], [media], CPU, torch.float32)
    found = encoder_input(media, loaded)
    assert found.slots == int(loaded.adapter.visual_mask(inputs["input_ids"]).sum())
    assert found.slots >= sum(found.unit_sizes("tile")) == sum(found.unit_sizes("image"))


@pytest.mark.parametrize("amount", [["method=none"], ["method=cls", "ratio=0.75"], ["method=fastv", "ratio=0.75"]])
def test_result_follows_from_the_lines(folder, amount, tmp_path):
    settings = ["batch_size=3", "limit=4", "latency_samples=0", "logger=none", f"outputs={tmp_path}"]
    result = run(compose_run(["model=path", f"model.path={folder}", *amount, *settings]))
    answers = result["answers"]
    (file,) = tmp_path.rglob("predictions.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    slots = [row["encoded"]["slots"] for row in rows]
    assert answers["tokens"]["total"] == sum(slots) / len(slots)
    if amount[0] == "method=none":
        assert slots == [row["visual"][0][1] for row in rows]
        assert answers["flops"]["total"] == pytest.approx(answers["flops"]["unpruned_total"])
    else:
        assert answers["flops"]["total"] < answers["flops"]["unpruned_total"]
