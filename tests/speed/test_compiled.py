"""Compiled decode steps as one more case, here with a compiler that only traces."""

from __future__ import annotations

import pytest
import torch

from tests.speed.conftest import QUICK
from tests.speed.test_command import the_json
from vlmprune.cli import main
from vlmprune.config import ModelConfig
from vlmprune.generation import greedy, greedy_from
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.none import Unpruned
from vlmprune.models.loading import find_checkpoint, load
from vlmprune.pruning.session import Session
from vlmprune.speed import compiled, measuring
from vlmprune.speed.compiled import CompiledAnswers
from vlmprune.speed.settings import Load
from vlmprune.speed.synthetic import make_prompts

pytestmark = pytest.mark.slow  # tracing takes seconds


@pytest.mark.parametrize("method", [Unpruned(), ClsAttention(ratio=0.9)])
def test_the_same_answers_and_times_that_add_up(method, monkeypatch):
    config = ModelConfig("tiny")
    loaded = load(find_checkpoint(config), config, torch.float32, torch.device("cpu"))
    prompts = make_prompts(loaded, Load(prompt_tokens=16, image_size=56), 2)
    answers = []

    def noted(*args, **inputs):
        answers.append(greedy_from(*args, **inputs))
        return answers[-1]

    monkeypatch.setattr(compiled, "greedy_from", noted)
    times, shared = CompiledAnswers(loaded, "eager").time(method, prompts.inputs, 4)
    with Session(loaded.adapter, method) as session:
        plain = greedy(loaded, prompts.inputs, 4, eos_token_id=None)
    assert torch.equal(answers[0][:, -4:], plain[:, -4:])
    assert shared.record.visual_counts == session.record.visual_counts

    assert (times["selection"] > 0) == (method.stage != "none")
    first = times["vision"] + times["projector"] + times["prefill"] + times["other"]
    assert first == pytest.approx(times["first_token"])
    assert first + 3 * times["decode_per_token"] == pytest.approx(times["end_to_end"])


def test_compiled_rows(ceiling, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "BACKEND", "eager")
    cases = ["method=none,cls,fastv", "ratio=0.9", "compile=false,true", "batch_size=1"]
    assert main(["speed", *QUICK, *cases, f"outputs={tmp_path}"]) == 0
    rows = {row["label"]: row for row in the_json(tmp_path)["rows"]}
    assert list(rows) == ["unpruned", "unpruned compiled", "cls", "cls compiled", "fastv", "fastv compiled"]
    assert rows["fastv compiled"]["state"] == "not applicable"
    assert "compile=true: fastv keeps other tokens for every question" in capsys.readouterr().out
    for name in ("unpruned", "cls"):
        plain, steps = rows[name], rows[f"{name} compiled"]
        for same in ("tokens", "flops", "kv_cache_bytes", "bytes_per_step", "flops_ratio"):
            assert plain[same] == steps[same]
        assert steps["speed_up"]["decode_per_token"] > 0
