"""Every family from a folder in the hub's format, through the path that a downloaded checkpoint takes."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from tests.models.hub import MODELS, load_saved
from tests.runs import run
from vlmprune.cli.listing import missing_signals
from vlmprune.config.registry import build_method, read_choice
from vlmprune.config.settings import compose_run
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.evaluation.generation import greedy
from vlmprune.evaluation.predictions import encoder_input

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(folder):
    return load_saved(folder, prompt="chat_template")


@pytest.fixture(scope="module")
def tokens(folder, tmp_path_factory) -> float:
    """Patches or merged tokens of a scene, without newlines."""
    settings = ["method=uniform", "ratio=0", "limit=4", "latency_samples=0", "logger=none"]
    outputs = f"outputs={tmp_path_factory.mktemp('unpruned')}"
    result = run(compose_run(["model=path", f"model.path={folder}", outputs, *settings]))
    return result["answers"]["tokens"]["kept"]["mean"]


@pytest.mark.parametrize(
    "method",
    ["cls", "fastv", "visionzip", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "divprune"))],
)
def test_a_run(folder, tokens, method, tmp_path):
    """What its result says of tokens and FLOPs follows from its lines."""
    amount = [] if method == "none" else ["ratio=0.75"]
    settings = ["batch_size=3", "limit=4", "latency_samples=1", "logger=none", f"outputs={tmp_path}"]
    config = compose_run(["model=path", f"model.path={folder}", f"method={method}", *amount, *settings])
    family = read_choice("model", MODELS[folder.name])["info"]
    if lack := missing_signals(family, read_choice("method", method)["info"]):
        with pytest.raises(UserError, match=f"method '{method}' needs {', '.join(lack)}, which model"):
            run(config)
        return
    answers = run(config)["answers"]
    assert answers["samples"] == 4
    share = answers["tokens"]["kept"]["mean"] / tokens
    assert share == 1 if method == "none" else 0.2 < share < 0.3

    (file,) = tmp_path.rglob("predictions.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    slots = [row["encoded"]["slots"] for row in rows]
    assert answers["tokens"]["total"] == sum(slots) / len(slots)
    if method == "none":
        assert slots == [row["visual"][0][1] for row in rows]
        assert answers["flops"]["total"] == pytest.approx(answers["flops"]["unpruned_total"])
    else:
        assert answers["flops"]["total"] < answers["flops"]["unpruned_total"]


@pytest.mark.parametrize("kind, count", [("image", 1), ("image", 2), ("video", 3)])
def test_slots_are_the_prompts_placeholders(loaded, kind, count):
    sizes = [(90, 60)] * count if kind == "video" else [(90, 60), (60, 110)][:count]
    media = loaded.preprocessor.media([Image.new("RGB", size) for size in sizes], kind)
    inputs = loaded.preprocessor.batch(["what?"], [media], CPU, torch.float32)
    found = encoder_input(media, loaded)
    assert found.slots == int(loaded.adapter.visual_mask(inputs["input_ids"]).sum())
    assert found.slots >= sum(found.unit_sizes("tile")) == sum(found.unit_sizes("image"))


def questions(loaded, kind: str) -> dict[str, torch.Tensor]:
    """A batch of two: one of them with two images where they are images, of other shapes and lengths."""
    pictures = [Image.effect_noise(size, 80).convert("RGB") for size in ((90, 60), (60, 110), (64, 64), (70, 70))]
    prepare = loaded.preprocessor
    if kind == "video":
        media = [prepare.media(pictures[:1] * 4, kind), prepare.media(pictures[1:2] * 4, kind)]
    else:
        media = [prepare.media(pictures[:2], kind), prepare.media(pictures[2:3], kind)]
    return prepare.batch(["What is the star?", "How many blue"], media, CPU, torch.float32)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_ratio_0_is_plain_transformers(folder, loaded, kind):
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = questions(loaded, kind)
    with torch.inference_mode():
        expected = plain(**inputs).logits
        ids = plain.generate(**inputs, max_new_tokens=4, do_sample=False)
        for name in ("none", "cls", "fastv"):
            with Session(loaded.adapter, build_method(name, ratio=0)):
                assert torch.equal(loaded.model(**inputs).logits, expected), name
                assert torch.equal(greedy(loaded, inputs, 4), ids), name


@pytest.mark.parametrize("kind", ["image", "video"])
def test_pruned_answers_take_fewer_tokens(loaded, kind):
    inputs = questions(loaded, kind)
    slots = loaded.adapter.visual_mask(inputs["input_ids"]).sum(1).tolist()
    for name in ("cls", "fastv", "divprune"):
        with Session(loaded.adapter, build_method(name, ratio=0.75)) as session:
            output = greedy(loaded, inputs, 4)
        assert session.record is not None
        last = session.record.visual_counts[-1]
        assert all(0 < kept <= 0.35 * all_slots for kept, all_slots in zip(last, slots, strict=True)), name
        assert len(loaded.preprocessor.decode(output)) == 2
