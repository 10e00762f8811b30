"""`vlmprune compare --published` on made-up run directories: which stand beside which figures, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError

MODEL = {"model": "llava-1.5-7b", "benchmark": "gqa"}


def pairs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[dict[str, Any]], list[str]]:
    report = as_json(capsys, "--published", *arguments)
    return report["pairs"], report["notes"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Unpruned, and two methods at a published ratio, of a published model and benchmark."""
    make_run(tmp_path, "none", **MODEL)
    make_run(tmp_path, "cls", 0.9, settings={"keep_order": "spatial"}, **MODEL)
    make_run(tmp_path, "fastv", 0.5, settings={"k": 2}, **MODEL)
    return tmp_path


def test_a_run_stands_beside_the_figure_of_the_same_thing(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, notes = pairs(capsys, str(outputs), "method=cls")
    (pair,) = found
    result = json.loads((Path(pair["path"]) / "result.json").read_text())
    assert (pair["method"], pair["published_method"], pair["published"]) == ("cls", "FasterVLM", 54.91)
    assert pair["ours"] == pytest.approx(100 * result["answers"]["score"])
    assert pair["difference"] == pytest.approx(pair["ours"] - 54.91)
    assert [pair["ours_low"], pair["ours_high"]] == pytest.approx([100 * x for x in result["answers"]["interval95"]])
    assert pair["published_relative"] == pytest.approx(54.91 / 61.94)
    assert 0.5 < pair["relative"] < 1.1
    assert len(notes) == 1 and "vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=" in notes[0]


def test_unpruned_and_blind_runs_have_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "none", **MODEL)
    make_run(tmp_path, "random", 1.0, **MODEL)
    found, _ = pairs(capsys, str(tmp_path))
    unpruned = {pair["published"] for pair in found if pair["method"] == "none"}
    assert unpruned == {61.94, 62.0, 61.93, 61.9}
    (blind,) = [pair for pair in found if pair["method"] == "random"]
    assert blind["published"] == 37.38 and blind["published_tokens"] == 0


@pytest.mark.parametrize(
    "method, settings, said",
    [
        ("fastv", {"k": 3}, "method.k=3 (published: 2)"),
        ("cls", {"keep_order": "score"}, "method.keep_order=score (published: spatial)"),
    ],
)
def test_other_settings_are_named_not_compared(
    outputs: Path, capsys: pytest.CaptureFixture[str], method: str, settings: dict[str, Any], said: str
) -> None:
    other = make_run(outputs, method, 0.9 if method == "cls" else 0.25, seed=1, settings=settings, **MODEL)
    found, notes = pairs(capsys, str(outputs))
    assert str(other) not in {pair["path"] for pair in found}
    assert [note for note in notes if str(other) in note and said in note]


def test_fastv_of_k_3_is_that_of_lmms_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "fastv", 0.5, settings={"k": 3}, **MODEL)
    (pair,) = pairs(capsys, str(tmp_path))[0]
    assert pair["published"] == 60.4 and pair["published_variant"] == "K=3" and pair["relative"] is None


def change(path: Path, config: dict[str, Any], **result: Any) -> None:
    """Replace parts of a run's config.yaml and result.json."""
    (path / "config.yaml").write_text(json.dumps(config))
    change_result(path, result.pop("answers", {}), **result)


def test_a_schedule_counts_by_its_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, retain in enumerate((128, 192)):
        path = make_run(tmp_path, "cls", 0.4, seed=seed, **MODEL)
        change(path, {"method": {"retain": retain}, "budget": "published"}, method="sparsevlm", ratio=None)
    found, notes = pairs(capsys, str(tmp_path))
    (pair,) = found
    assert (pair["published"], pair["published_tokens"]) == (56.0, 128)
    assert "method.retain=192 (published: 128)" in notes[0]


def test_averaged_budgets_are_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, budget in enumerate(("published", "average")):
        path = make_run(tmp_path, "fastv", 0.5, seed=seed, settings={"k": 2}, **MODEL)
        change(path, {"method": {"k": 2} if seed == 0 else {}, "budget": budget}, method=("fastv", "sparsevlm")[seed])
    found, _ = pairs(capsys, str(tmp_path))
    assert {(pair["published_method"], pair["published"]) for pair in found} == {("FastV", 60.05), ("SparseVLM", 58.78)}
    change(path, {"method": {}, "budget": "published"})
    assert {pair["published_method"] for pair in pairs(capsys, str(tmp_path))[0]} == {"FastV"}


@pytest.mark.parametrize("config", ["{", "[]", "method: fastv", "method: {k: [2]}"])
def test_a_damaged_config_is_no_match_and_not_fatal(
    outputs: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    (fastv,) = (path for path in (outputs / "gqa" / "llava-1.5-7b").iterdir() if path.name.startswith("fastv"))
    (fastv / "config.yaml").write_text(config)
    found, notes = pairs(capsys, str(outputs))
    assert "fastv" not in {pair["method"] for pair in found}
    assert [note for note in notes if str(fastv) in note and "method.k=" in note]


@pytest.mark.parametrize("kept, values", [(58, {54.91}), (59, set()), (128, {58.2})])
def test_kept_tokens_stand_for_a_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int, values: set[float]
) -> None:
    make_run(tmp_path, "none", **MODEL)  # always has figures beside it
    path = make_run(tmp_path, "cls", 0.9, **MODEL)
    method = "vtc_cls" if kept == 128 else "cls"
    answers = json.loads((path / "result.json").read_text())["answers"]
    answers["tokens"]["kept"]["mean"] = float(kept)
    change(path, {"method": {}}, answers=answers, ratio=None, keep=kept, method=method)
    assert {pair["published"] for pair in pairs(capsys, str(tmp_path))[0] if pair["method"] != "none"} == values


def test_mme_is_in_points_with_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path, "cls", 0.75, model="llava-1.5-7b", benchmark="mme")
    answers = {"metric": "perception", "score": 0.7, "interval95": [0.65, 0.75], "metrics": {"perception": 1400.0}}
    change_result(path, answers)
    (pair,) = pairs(capsys, str(tmp_path))[0]
    assert pair["published"] == 1433.76 and pair["difference"] == pytest.approx(1400 - 1433.76)
    assert [pair["ours_low"], pair["ours_high"]] == pytest.approx([1300, 1500])


def test_table_shows_difference_and_caution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset = {"subset": "limit=320"}
    make_run(tmp_path, "visionzip", 0.8889, model="llava-1.5-7b", benchmark="scienceqa", comparable=subset)
    for style in ("table", "latex"):
        assert compare(["--published", str(tmp_path), f"format={style}"]) == 0
        captured = capsys.readouterr()
        out = captured.out.replace("{[}", "[")
        assert "VisionZip (visionzip)" in out and " 69 " in out and "caution [1]" in out
        text = " ".join(out.split())
        assert "the unpruned 66.8 beside it is of LLaVA's paper, FasterVLM measured 69.51; equals" in text
        assert "ours: 320 questions alone (limit=320)" in text
        assert "next: vlmprune run model=llava-1.5-7b benchmark=scienceqa method=" in text + captured.err


def test_without_a_pair_one_line_says_what_to_run(tmp_path: Path) -> None:
    make_run(tmp_path, "cls", 0.9)
    with pytest.raises(
        UserError, match=r"none of these runs \(1\) is .*; the next: vlmprune run model=.* method=cls"
    ) as caught:
        compare(["--published", str(tmp_path)])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="give one of the two"):
        compare(["--published", str(tmp_path), "chart=x.png"])
    with pytest.raises(UserError, match="did you mean '--published'"):
        compare(["--publish", str(tmp_path)])


@pytest.mark.parametrize(
    ("benchmark", "metric", "samples", "note"),
    [
        ("mmbench", "accuracy", 4329, "published of 4,377 questions, ours of 4,329"),
        ("mmbench", "accuracy", 4377, ""),
        ("pope", "f1", 9000, "published of 8,910 questions, ours of 9,000"),
        ("gqa", "accuracy", 12578, ""),
    ],
)
def test_other_questions_than_the_published_are_said(
    benchmark: str, metric: str, samples: int, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_run(tmp_path, "cls", 0.75, model="llava-1.5-7b", benchmark=benchmark)
    change_result(path, {"metric": metric, "metrics": {metric: 0.6}, "samples": samples})
    assert compare(["--published", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert note in out and ("published of" in out) == bool(note)
    assert {pair["questions"] for pair in pairs(capsys, str(tmp_path))[0]} == {samples}
