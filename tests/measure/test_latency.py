"""The stopwatch: parts exclude what nests inside them, and add up to the whole."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import make_batch, make_llava
from vlmprune.engine.prompt_state import Record
from vlmprune.engine.session import Session
from vlmprune.evaluation.latency_pass import mean_lengths
from vlmprune.measure import environment as module
from vlmprune.measure.environment import describe_conditions, gpu_clocks
from vlmprune.measure.latency import StageClock, summarise, time_parts
from vlmprune.methods.base import Method
from vlmprune.methods.baselines import Unpruned
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV
from vlmprune.models.base import adapt

CPU = torch.device("cpu")


def test_an_inner_part_is_not_the_outer_ones():
    clock = StageClock(CPU)
    with clock("outer"):
        time.sleep(0.02)
        with clock("inner"):
            time.sleep(0.05)
    assert clock.milliseconds["inner"] >= 50
    assert 20 <= clock.milliseconds["outer"] < 50
    assert clock.whole.milliseconds() == pytest.approx(clock.milliseconds["inner"] + clock.milliseconds["outer"])


@pytest.mark.parametrize("new_tokens", [5, 1])
@pytest.mark.parametrize("method", [Unpruned(), ClsAttention(ratio=0.5), FastV(ratio=0.5)])
def test_the_parts_of_a_question_add_up(method: Method, new_tokens: int):
    adapter = adapt(make_llava())
    clock = StageClock(CPU)
    settings = {"max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def generate() -> torch.Tensor:
        return adapter.model.generate(**make_batch([9]), **settings)

    with Session(adapter, method, clock), clock.watch(adapter.model, adapter.vision_towers, adapter.projector):
        row, output = time_parts(generate, clock)
    assert output.shape[1] == 9 + 36 + new_tokens
    assert clock.steps == new_tokens - 1
    for part in ("vision", "projector", "prefill", "other", "end_to_end"):
        assert row[part] > 0, part
    assert (row["selection"] > 0) == (method.stage != "none")
    assert (row["decode_per_token"] is None) == (new_tokens == 1)
    first = row["vision"] + row["projector"] + row["prefill"]
    rest = (new_tokens - 1) * (row["decode_per_token"] or 0)
    assert first + rest + row["other"] == pytest.approx(row["end_to_end"])
    assert first < row["first_token"] < row["end_to_end"] - rest


def test_selection_inside_the_decoder_is_part_of_the_prefill():
    clock = StageClock(CPU)
    with clock("other"), clock("prefill"), clock("selection"):
        time.sleep(0.01)
    row, _ = time_parts(lambda: None, clock)
    assert row["prefill"] >= row["selection"] >= 10


def test_the_model_is_left_without_hooks():
    adapter, clock = adapt(make_llava()), StageClock(CPU)
    with clock.watch(adapter.model, adapter.vision_towers, adapter.projector):
        assert adapter.model._forward_hooks
    for watched in (adapter.model, adapter.projector, *adapter.vision_towers):
        assert not watched._forward_hooks and not watched._forward_pre_hooks


def test_summary_of_the_rows():
    rows = [{"prefill": float(ms), "decode_per_token": None} for ms in range(1, 11)]
    rows[3]["decode_per_token"] = 7.0
    assert summarise(rows) == {
        "prefill": {"median_ms": 5.5, "p25_ms": 3.0, "p75_ms": 8.0, "p90_ms": 9.0, "n": 10},  # 9 of 10 are 9 or less
        "decode_per_token": {"median_ms": 7.0, "p25_ms": 7.0, "p75_ms": 7.0, "p90_ms": 7.0, "n": 1},
    }
    assert summarise([{"decode_per_token": None}]) == {"decode_per_token": None}


def test_lengths_are_means_over_questions_and_layers():
    unpruned = [Record([[36], [36]], [45]), Record([[36], [36]], [43])]
    pruned = [Record([[36], [18]], [45]), Record([[36], [9]], [43])]
    assert mean_lengths(unpruned, pruned) == {"text": 8.0, "visual_before": 36.0, "visual_after": 24.75}


def test_conditions_of_a_cpu():
    found = describe_conditions(make_llava("eager").half())
    assert (found["device"], found["dtype"], found["attention"]) == ("cpu", "float16", "eager")
    assert found["threads"] == torch.get_num_threads() and found["clocks_mhz"] is None


@pytest.mark.parametrize(
    "printed, clocks",
    [
        ("1980, 3201, 1980, 3201\n", {"sm": 1980, "mem": 3201, "max.sm": 1980, "max.mem": 3201}),
        ("345, [N/A], 1980, [N/A]\n", {"sm": 345, "max.sm": 1980}),
        ("[N/A], [N/A], [N/A], [N/A]\n", None),
        (None, None),
    ],
)
def test_clocks_of_a_gpu_are_what_nvidia_smi_says(monkeypatch, printed, clocks):
    def run(command: list[str], **_: object) -> SimpleNamespace:
        assert command[0] == "nvidia-smi" and command[-1] == "--id=GPU-1234"
        if printed is None:
            raise FileNotFoundError("nvidia-smi")
        return SimpleNamespace(stdout=printed)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1234"))
    assert gpu_clocks(torch.device("cuda")) == clocks
