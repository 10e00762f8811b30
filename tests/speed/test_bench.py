"""Cases in turn, each as often as was asked for, and the device's ceiling, which counts work as torch does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmprune.measure.flops import question_flops
from vlmprune.methods.baselines import Unpruned
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.fastv import FastV
from vlmprune.speed import Load, bench
from vlmprune.speed.bench import Bench, Ceiling, Measurement, best_rate, copied_bytes, matmul_flops, measure_ceiling
from vlmprune.speed.load import Case, Refusal, make_batch
from vlmprune.speed.rows import make_rows, refusal_row

CPU = torch.device("cpu")
LOAD = Load(prompt_tokens=20, new_tokens=3, image_size=56, repeats=3, warm_up=1)
CASES = [
    Case("unpruned", None, None, Unpruned()),
    Case("cls", 0.5, None, ClsAttention(ratio=0.5)),
    Case("fastv", 0.5, None, FastV(ratio=0.5)),
]


def last(rounds: Iterator[list[Measurement]]) -> list[Measurement]:
    *_, found = rounds
    return found


@pytest.fixture(scope="module")
def prompts(loaded):
    return make_batch(loaded, LOAD, 2)


@pytest.fixture(scope="module")
def measured(loaded, prompts) -> list[Measurement]:
    return last(Bench(loaded, {}, LOAD, lambda _: None).measure(CASES, prompts))


def test_every_prompt_gets_all_its_tokens(measured):
    for one in measured:
        assert len(one.times) == LOAD.repeats
        assert one.peak_mb > 50 and one.peak_since
        for times in one.times:
            first = times["vision"] + times["projector"] + times["prefill"]
            decode = (LOAD.new_tokens - 1) * times["decode_per_token"]
            assert first + decode + times["other"] == pytest.approx(times["end_to_end"])


def test_cases_take_turns(loaded, prompts, monkeypatch):
    order = []
    original = bench.time_generate

    def noted(loaded, method, *args, **options):
        order.append(type(method).__name__)
        return original(loaded, method, *args, **options)

    monkeypatch.setattr(bench, "time_generate", noted)
    advanced = []
    rounds = [len(found[0].times) for found in Bench(loaded, {}, LOAD, advanced.append).measure(CASES, prompts)]
    assert rounds == [1, 2, 3]
    assert sum(advanced) == len(order) == Bench.calls(CASES, 1, LOAD)
    rounds = [order[6:][3 * turn : 3 * turn + 3] for turn in range(3)]  # after a first call and a warm-up of each
    assert [names[0] for names in rounds] == ["Unpruned", "ClsAttention", "FastV"]
    assert all(set(names) == {"Unpruned", "ClsAttention", "FastV"} for names in rounds)


@pytest.mark.parametrize("fails_at", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_out_of_memory_is_a_row(loaded, prompts, monkeypatch, fails_at):
    calls = Counter()
    original = bench.time_generate

    def scarce(loaded, method, *args, **options):
        calls[type(method).__name__] += 1
        if isinstance(method, ClsAttention) and calls["ClsAttention"] == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return original(loaded, method, *args, **options)

    monkeypatch.setattr(bench, "time_generate", scarce)
    found = last(Bench(loaded, {}, LOAD, lambda _: None).measure(CASES, prompts))
    assert [one.out_of_memory for one in found] == [False, True, False]
    assert calls == {"Unpruned": 5, "ClsAttention": fails_at, "FastV": 5}
    rows = make_rows(found, prompts.encoded, loaded, LOAD, Ceiling(1e12, 1e11, 8, 8), 1000)
    assert [row["state"] for row in rows] == ["measured", "out of memory", "measured"]
    assert "speed_up" in rows[2]


def test_without_an_unpruned_row_nothing_is_compared(loaded, prompts, measured):
    gone = Measurement(CASES[0], 2, out_of_memory=True)
    rows = make_rows([gone, measured[1]], prompts.encoded, loaded, LOAD, Ceiling(1e12, 1e11, 8, 8), 1000)
    assert rows[1]["state"] == "measured" and "speed_up" not in rows[1] and "realised" not in rows[1]


def test_what_was_measured_before_compiling_is_known_when_it_fails(loaded, prompts, monkeypatch):
    original = bench.time_generate

    def broken(loaded, method, inputs, questions, new_tokens, tower, compiled, **options):
        if compiled is not None:
            raise RuntimeError("no kernel image")
        return original(loaded, method, inputs, questions, new_tokens, tower, compiled, **options)

    monkeypatch.setattr(bench, "time_generate", broken)
    cases = [*CASES, Case("cls compiled", 0.5, None, ClsAttention(ratio=0.5), compiled=True)]
    rounds = Bench(loaded, {}, LOAD, lambda _: None).measure(cases, prompts)
    assert [len(one.times) for one in next(rounds)] == [1, 1, 1]
    with pytest.raises(RuntimeError, match="no kernel"):
        next(rounds)


def test_other_errors_are_not_swallowed(loaded, prompts, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(bench, "time_generate", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        last(Bench(loaded, {}, LOAD, lambda _: None).measure(CASES, prompts))


def test_rows_are_what_their_formulas_say(loaded, prompts, measured):
    ceiling = Ceiling(2e11, 3e10, 8, 8)
    rows = make_rows(measured, prompts.encoded, loaded, LOAD, ceiling, 1000)
    bare = rows[0]
    for row, case, visual in zip(rows, CASES, ([144] * 6, [72] * 6, [144] * 2 + [72] * 4), strict=True):
        flops = question_flops(loaded.adapter, case.method, prompts.encoded, visual, 20, 3)
        assert {part: row["flops"][part] for part in flops.as_dict()} == flops.as_dict()
        assert row["flops"]["first_token"] == flops.vision + flops.projector + flops.selection + flops.prefill
        first, step = (row["ms"][part]["median_ms"] / 1e3 for part in ("first_token", "decode_per_token"))
        assert row["flops_per_s"] == pytest.approx(2 * row["flops"]["first_token"] / first)
        assert row["of_flops_ceiling"] == pytest.approx(row["flops_per_s"] / 2e11)
        per_token = 2 * 6 * 2 * 4 * 32 * 4  # rows, layers, key and value, heads, width, float32
        assert row["bytes_per_step"] == 1000 + row["kv_cache_bytes"] + 1.5 * per_token
        assert row["bytes_per_s"] == pytest.approx(row["bytes_per_step"] / step)
        assert row["of_bandwidth_ceiling"] == pytest.approx(row["bytes_per_s"] / 3e10)
        for part, faster in row["speed_up"].items():
            assert faster == pytest.approx(bare["ms"][part]["median_ms"] / row["ms"][part]["median_ms"])
        assert row["flops_ratio"] == bare["flops"]["first_token"] / row["flops"]["first_token"]
        assert row["realised"] == pytest.approx(row["speed_up"]["first_token"] / row["flops_ratio"])
    assert bare["realised"] == bare["flops_ratio"] == 1


def test_a_refusal_row_has_its_reason():
    row = refusal_row(Refusal("scm", 0.5, None, "method 'scm' needs tiles"))
    assert row == {
        "state": "not applicable",
        "label": "scm",
        "ratio": 0.5,
        "keep": None,
        "batch_size": None,
        "reason": "method 'scm' needs tiles",
    }


def test_work_of_a_product_is_what_torch_counts():
    with FlopCounterMode(display=False) as counter:
        torch.randn(48, 48) @ torch.randn(48, 48)
    assert matmul_flops(48) == counter.get_total_flops()


def test_a_copy_reads_and_writes_every_byte():
    assert copied_bytes(torch.zeros(10, dtype=torch.float16)) == 40


def test_the_rate_is_that_of_the_fastest_run():
    naps = iter([0.2, 0.05, 0.02, 0.05])
    rate = best_rate(1000, lambda: time.sleep(next(naps)), CPU, 0.08)
    assert 1000 / 0.05 < rate <= 1000 / 0.02


def test_one_run_is_enough_where_it_takes_longer_than_the_time_given():
    calls = []
    assert best_rate(1.0, lambda: calls.append(1), CPU, 0.0) > 0
    assert len(calls) == 2  # one of them is the warm-up


@pytest.mark.slow
@pytest.mark.parametrize("dtype, side", [(torch.float32, 1024), (torch.bfloat16, 512), (torch.float16, 512)])
def test_a_ceiling_of_this_machine(dtype, side):
    ceiling = measure_ceiling(CPU, dtype, seconds=0.05)
    assert ceiling.flops > 1e8 and ceiling.bandwidth > 1e8
    assert (ceiling.side, ceiling.copied_bytes) == (side, 2**27)
