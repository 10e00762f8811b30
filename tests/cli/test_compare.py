"""`vlmprune compare` on made-up run directories: arguments, grouping, references, filters and damaged folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.results.sweep_record import JobRecord, SweepRecord


def by_name(group: dict[str, Any]) -> dict[tuple[str, float | None], dict[str, Any]]:
    return {(row["label"], row["ratio"]): row for row in group["runs"]}


def test_rows_are_sorted_and_compared_within_the_group(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, str(outputs))
    (group,) = report["groups"]
    assert [(row["method"], row["ratio"]) for row in group["runs"]] == [
        ("none", None),
        ("cls", 0.5),
        ("cls", 0.9),
        ("fastv", 0.5),
        ("fastv", 0.9),
        ("random", 0.5),
        ("random", 0.9),
    ]
    rows = by_name(group)
    unpruned, cls, chance = rows["none", None], rows["cls", 0.9], rows["random", 0.9]
    assert cls["versus_unpruned"] == pytest.approx(cls["score"] - unpruned["score"]) and cls["versus_unpruned"] < 0
    assert cls["versus_unpruned_low"] < cls["versus_unpruned"] < cls["versus_unpruned_high"] < 0
    assert 0 < cls["versus_unpruned_p"] < 0.05 and chance["versus_unpruned_p"] is not None
    assert unpruned["versus_unpruned"] is None
    assert unpruned["relative_score"] == 1 and unpruned["versus_random"] is None
    assert cls["relative_score"] == pytest.approx(cls["score"] / unpruned["score"])
    assert cls["versus_random"] == pytest.approx(cls["score"] - chance["score"])
    assert 0 < cls["versus_random_p"] < 0.05 and cls["versus_random_low"] > 0
    assert cls["prefill_speed_up"] == pytest.approx(9.2 / 2.7)
    assert chance["versus_random"] is None and unpruned["prefill_speed_up"] is None
    # FastV's first two layers see every token: random at its layer-averaged tokens was not run.
    assert rows["fastv", 0.9]["versus_random"] is None
    # fastv at 0.9 costs more than cls at 0.9 and scores less
    assert cls["pareto"] and not rows["fastv", 0.9]["pareto"]
    (unfinished,) = report["unfinished"]
    assert "uniform-0.5" in unfinished["path"] and "not finished, 320 questions answered" in unfinished["reason"]


def test_p_values_are_corrected_over_what_is_tested(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = by_name(as_json(capsys, str(outputs), "method=cls", "ratio=0.9")["groups"][0])["cls", 0.9]["versus_random_p"]
    two = by_name(as_json(capsys, str(outputs), "method=cls")["groups"][0])["cls", 0.9]["versus_random_p"]
    assert two == pytest.approx(2 * one)  # both are as small as the number of flips lets them be


def test_every_column_of_tests_is_a_family_of_its_own(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(capsys, str(outputs))["groups"][0]["runs"]
    unpruned, chance = ([row for row in rows if row[f"versus_{name}"] is not None] for name in ("unpruned", "random"))
    assert len(unpruned) == 6 and len(chance) == 2
    # Nothing reaches below 1 / (flips + 1) times the number of tests of its own column.
    assert min(row["versus_random_p"] for row in chance) == pytest.approx(2 / 10_001)
    assert min(row["versus_unpruned_p"] for row in unpruned) == pytest.approx(6 / 10_001)


def test_seeds_of_random_count_as_their_mean(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = [make_run(outputs, "random", 0.75, seed=seed, settings={"seed": seed}) for seed in (1, 2)]
    make_run(outputs, "cls", 0.75)
    scores = [json.loads((run / "result.json").read_text())["answers"]["score"] for run in random]
    rows = by_name(as_json(capsys, str(outputs))["groups"][0])
    assert scores[0] != scores[1] and rows["random", 0.75]["score"] == pytest.approx(sum(scores) / 2)
    assert rows["cls", 0.75]["versus_random"] == pytest.approx(rows["cls", 0.75]["score"] - sum(scores) / 2)


def test_runs_of_one_method_are_told_apart_by_their_settings(tmp_path: Path, capsys: Any) -> None:
    make_run(tmp_path, "fastv", 0.5, settings={"k": 2, "keep_order": "spatial"})
    make_run(tmp_path, "fastv", 0.5, seed=1, settings={"k": 3, "keep_order": "spatial"})
    assert {name for name, _ in by_name(as_json(capsys, str(tmp_path))["groups"][0])} == {"fastv k=2", "fastv k=3"}


def test_without_references_there_are_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "cls", 0.9, timings={"latency": None, "kv_cache_bytes": None, "peak_memory_mb": None})
    assert compare([f"outputs={tmp_path}"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("*  cls")]
    # relative, both tests, prefill, decode, end to end, cache and peak
    assert line.split()[2:4] == ["90", "%"] and line.split().count("-") == 8
    assert "14/144" in line and "cannot all be compared" not in out
    assert "no unpruned run to compare with: vlmprune run method=none" in out
    assert "no random pruning at as many tokens as cls 90 %: vlmprune run method=random ratio=0.9 outputs=o" in out


@pytest.mark.parametrize(
    "change",
    [
        {"comparable": {"subset": "limit=100,seed=0"}},
        {"comparable": {"dtype": "float16"}},
        {"model": "llava"},
        {"benchmark": "gqa"},
    ],
)
def test_what_cannot_be_compared_gets_its_own_table(
    outputs: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    make_run(outputs, "cls", 0.75, **change)
    assert compare([str(outputs)]) == 0
    out = capsys.readouterr().out
    name, value = next(iter(change.items()))
    if isinstance(value, dict):
        name, value = next(iter(value.items()))
    assert "cannot all be compared" in out
    assert any(line.startswith(f"  {name}") and value in line for line in out.splitlines())
    report = as_json(capsys, str(outputs))
    assert sorted(len(group["runs"]) for group in report["groups"]) == [1, 7]
    (alone,) = next(group["runs"] for group in report["groups"] if len(group["runs"]) == 1)
    assert alone["relative_score"] is None and alone["versus_random"] is None


def test_results_of_an_older_version_are_told_apart(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They name no engine: the same method and ratio stand in a table of their own, and it says why."""
    file = make_run(outputs, "cls", 0.75) / "result.json"
    result = json.loads(file.read_text())
    del result["comparable"]["engine"]
    file.write_text(json.dumps(result))
    assert compare([str(outputs)]) == 0
    out = capsys.readouterr().out
    assert "  engine (tiny on scenes): 1 (vlmprune 0.2 and older) | 2" in out.splitlines()
    assert sorted(len(group["runs"]) for group in as_json(capsys, str(outputs))["groups"]) == [1, 7]
    assert compare([str(file.parent)]) == 0
    assert " · engine 1 (vlmprune 0.2 and older), today's is 2" in capsys.readouterr().out


def test_what_is_behind_a_hash_is_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two prompts differ in a hash that tells nobody anything, and in a setting."""
    for ratio, suffix in ((0.25, "Be brief."), (0.75, "")):
        path = make_run(outputs, "cls", ratio, comparable={"prompt": f"hash{ratio}"})
        config = {"benchmark": {"_target_": "x", "suffix": suffix, "max_new_tokens": 8}}
        (path / "config.yaml").write_text(json.dumps(config))
    compare([str(outputs)])
    lines = capsys.readouterr().out.splitlines()
    (prompt,) = [line for line in lines if line.startswith("  prompt (tiny on scenes)")]
    (setting,) = [line for line in lines if line.startswith("  benchmark.suffix (tiny on scenes)")]
    assert "hash0.25 | hash0.75 | p" in prompt and setting.endswith(": '' | Be brief.")
    assert not [line for line in lines if "max_new_tokens" in line]


def test_other_environments_are_pointed_at(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(outputs, "cls", 0.25, environment={"device": "cuda", "versions": {"torch": "2.14.0"}})
    compare([str(outputs)])
    out = capsys.readouterr().out
    assert 'device differs ("cpu", "cuda"): times do not compare' in out and "library versions differ (torch)" in out


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cannot be read"),
        ("[]", "not as expected"),
        ('{"schema": 1}', "not as expected (fingerprint is missing)"),
        ("[" * 100_000, "cannot be read"),
        ('{"schema": 9}', "has schema 9"),
        ('{"schema": {}}', "not as expected"),
        ("\0", "cannot be read"),
    ],
)
def test_damaged_directories_are_named_never_fatal(
    outputs: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    broken = make_run(outputs, "vtc_cls", 0.5)
    (broken / "result.json").write_text(content)
    (make_run(outputs, "cls", 0.25) / "predictions.jsonl").write_text("not json\n")
    assert compare([str(outputs)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if str(broken) in line and said in line]
    assert "25 %" in out  # without its predictions a run is shown, without a comparison


def test_a_number_that_is_text_is_damage(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = make_run(outputs, "vtc_cls", 0.5)
    whole = (broken / "result.json").read_text()
    for answers, fields in (({}, {"ratio": "0.9"}), ({"score": "0.5"}, {})):
        (broken / "result.json").write_text(whole)
        change_result(broken, answers, **fields)
        assert compare([str(outputs), "format=csv"]) == 0
        assert "Input should be a valid number" in "".join(capsys.readouterr())


def test_filters(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = as_json(capsys, str(outputs), "method=cls", "method=fastv,cls", "ratio=.90")["groups"]
    assert [(row["method"], row["ratio"]) for row in group["runs"]] == [("cls", 0.9), ("fastv", 0.9)]
    assert group["runs"][0]["relative_score"] is not None  # references need not be shown


def test_single_directories_may_be_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(next(outputs.glob(f"scenes/tiny/{name}-*"))) for name in ("none", "cls-0.9")]
    (group,) = as_json(capsys, *paths, paths[0])["groups"]
    assert [row["method"] for row in group["runs"]] == ["none", "cls"]


def test_jobs_of_a_sweep_without_a_result_are_told(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (file.parent for file in outputs.rglob("uniform-*/config.yaml"))
    jobs = [
        JobRecord("method=scm", [], "tiny", "scm", "scenes", None, None, "not_applicable", "needs tiles"),
        JobRecord(
            "method=uniform", ["a"], "tiny", "uniform", "scenes", 0.5, None, "failed", "boom", directory=str(path)
        ),
        JobRecord("method=none", ["b"], "tiny", "none", "scenes", None, None, "done"),
    ]
    SweepRecord("sweep-1", [], "inprocess", "2026", "2026", jobs).write(outputs)
    assert compare([str(outputs)]) == 0
    told = capsys.readouterr().out.partition("not shown:")[2].splitlines()
    assert told[1:] == [f"- {path}: FAILED boom", "- method=scm: NOT APPLICABLE needs tiles"]


@pytest.mark.parametrize("form", ["table", "json", "latex"])
def test_questions_without_a_picture_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """A benchmark of one's own may have no picture at all: there is no visual token, and nothing is divided by it."""
    for method, ratio in (("none", None), ("cls", 0.5), ("fastv", None)):
        run = make_run(tmp_path, method, ratio)
        tokens = {"total": 0.0, "kept": {"mean": 0.0, "min": 0, "max": 0}, "layer_averaged": 0.0, "sequence": 24.2}
        change_result(run, {"tokens": tokens})
    assert compare([str(tmp_path), f"format={form}"]) == 0
    assert "cls" in capsys.readouterr().out


def test_filters_hold_for_what_is_not_shown(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job's values are known, and of a directory what its name says; anything else is not held against it."""
    jobs = [
        JobRecord(f"method={name}", [name], "tiny", name, "scenes", 0.5, None, "failed", "boom")
        for name in ("scm", "pool")
    ]
    SweepRecord("sweep-1", [], "inprocess", "2026", "2026", jobs).write(outputs)
    unfinished = as_json(capsys, str(outputs))["unfinished"]
    assert len(unfinished) == 3
    assert as_json(capsys, str(outputs), "method=cls")["unfinished"] == []
    assert len(as_json(capsys, str(outputs), "model=tiny", "benchmark=scenes", "device=cpu")["unfinished"]) == 3
    SweepRecord("sweep-2", [], "inprocess", "2027", "2027", [replace(jobs[1], model="llava")]).write(outputs)
    (uniform,) = as_json(capsys, str(outputs), "model=tiny", "method=cls,uniform")["unfinished"]
    assert "uniform-0.5" in uniform["path"]


@pytest.mark.parametrize(
    "argument, said",
    [
        ("charts=x.png", "a folder for all charts"),
        ("html=", "html= is empty"),
        ("--all", "allowed: --hard, --help, --published"),
        ("method=clss", "did you mean 'cls'"),
        ("ratio=0.3", "there are: 0.5, 0.9"),
        ("device=cuda", "there are: cpu"),
    ],
)
def test_bad_arguments_are_one_clear_line(outputs: Path, argument: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compare([f"outputs={outputs}", argument])
    assert "\n" not in str(caught.value)


def test_nothing_to_compare_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vlmprune run method=cls ratio=0\.95"):
        compare([f"outputs={tmp_path / 'missing'}"])
    make_run(tmp_path, "cls", 0.5, finished=False)
    with pytest.raises(UserError, match="1 not finished"):
        compare([f"outputs={tmp_path}"])


def test_a_benchmark_may_be_called_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "cls", 0.5, benchmark="reference")
    assert len(as_json(capsys, f"outputs={tmp_path}")["groups"]) == 1


def test_a_column_named_twice_is_shown_once(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare([str(outputs), "columns=method,method,ratio", "format=markdown"]) == 0
    assert "| method | ratio |\n" in capsys.readouterr().out
