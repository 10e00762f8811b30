"""`vlmprune compare --hard`: which questions are hard, worked by hand, and what is said where they cannot be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.results.synthetic import as_json, change_result, make_run
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.results.find import find_runs
from vlmprune.results.hard import find_pool_run

#            right unpruned:  a  b  c  d  -  -      by hand; a, b and d are hard at this budget
UNPRUNED, POOL, CLS, RANDOM = (
    [1, 1, 1, 0.6, 0.4, 0],
    [0, 0.4, 0.6, 0, 1, 0],
    [1, 0.6, 0.6, 0, 1, 1],
    [0, 0.6, 1, 0, 0, 0],
)


def write(path: Path, scores: list[float | None], **result: Any) -> Path:
    """Replace a run's answers by ones of these scores, an image each but for the first two, which share one."""
    rows = [
        {"id": f"q{i}", "image_id": f"image{max(i, 1)}", "category": "x", "score": score}
        for i, score in enumerate(scores)
    ]
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mean = None if None in scores else sum(scores) / len(scores)  # type: ignore[arg-type]
    change_result(path, {"score": mean, "interval95": None, "samples": len(scores)}, **result)
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    write(make_run(tmp_path, "none"), UNPRUNED)
    write(make_run(tmp_path, "pool", 0.9), POOL)
    write(make_run(tmp_path, "cls", 0.9), CLS)
    write(make_run(tmp_path, "random", 0.9), RANDOM)
    return tmp_path


def test_hard_is_right_unpruned_and_wrong_for_pool(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, "--hard", str(outputs))
    (table,) = report["tables"]
    assert (table["samples"], table["hard_samples"], table["hard_images"], table["easy_samples"]) == (6, 3, 2, 1)
    cls, chance = table["runs"]  # best first
    assert (cls["method"], chance["method"]) == ("cls", "random")
    assert cls["hard_score"] == pytest.approx((1 + 0.6 + 0) / 3) and chance["hard_score"] == pytest.approx(0.6 / 3)
    assert cls["easy_score"] == 0.6 and chance["easy_score"] == 1
    assert cls["versus_random"] == pytest.approx(1 / 3) and chance["versus_random"] is None
    # By image the differences sum to 1 and 0: one image differs, either sign is as extreme.
    assert cls["versus_random_p"] == 1
    # Two images, of 2 questions (mean 0.8) and of 1 (0): a resample has either, or both.
    assert (cls["hard_low"], cls["hard_high"]) == pytest.approx((0, 0.8))
    assert report["notes"] == []


def test_the_budget_is_what_was_asked_for_else_the_tokens_kept(tmp_path: Path) -> None:
    for method, ratio in (("cls", 0.9), ("fastv", 0.9), ("cls", 0.95), ("pool", 0.9)):
        write(make_run(tmp_path, method, ratio), CLS)
    same = write(make_run(tmp_path, "visionzip", 0.9), CLS, ratio=None, keep=14)
    runs = {(run.method, run.ratio): run for run in find_runs([tmp_path])[0]}
    pool = runs["pool", 0.9]
    assert find_pool_run(runs["cls", 0.9], [pool]) is find_pool_run(runs["fastv", 0.9], [pool]) is pool
    assert find_pool_run(runs["cls", 0.95], [pool]) is None
    assert same and find_pool_run(runs["visionzip", None], [pool]) is pool  # 14 of 144 tokens are left as well


def test_what_is_missing_is_said(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(make_run(outputs, "cls", 0.5), CLS)
    write(make_run(outputs, "cls", 0.95), CLS)
    notes = [
        "90 %: 3 hard questions are too few to tell methods apart",
        "no pool run at the budget of cls 50 %: vlmprune run method=pool ratio=0.5 outputs=o",
        "no pool run at the budget of cls 95 %: vlmprune run method=pool ratio=0.95 outputs=o",
    ]
    compare(["--hard", str(outputs)])
    out = capsys.readouterr().out
    assert "90 % · 3 of 6 questions are hard (2 images), 1 easy · pool keeps 14 of 144 tokens" in out
    assert [line.removeprefix("- ") for line in out.splitlines()[-3:]] == notes
    compare(["--hard", str(outputs), "format=csv"])
    captured = capsys.readouterr()
    assert captured.out.startswith("model,benchmark,samples,hard_samples") and captured.err.splitlines() == notes


def test_a_filter_hides_rows_not_references(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = as_json(capsys, "--hard", str(outputs), "method=cls")["tables"]
    assert [row["method"] for row in table["runs"]] == ["cls"] and table["runs"][0]["versus_random"] is not None


def test_nothing_is_hard_where_pool_is_right(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pool,) = outputs.glob("*/*/pool-*")
    write(pool, [1.0] * 6)
    (table,) = as_json(capsys, "--hard", str(outputs))["tables"]
    assert (table["hard_samples"], table["easy_samples"], table["runs"]) == (0, 4, [])
    assert compare(["--hard", str(outputs)]) == 0
    assert "no question is hard, pool answers all that the unpruned model does" in capsys.readouterr().out


@pytest.mark.parametrize(
    "scores, said",
    [
        ([5, 0, 1, 0, 0, 0], "run from 0 to 5, not from 0 to 1"),
        ([2, 0, 1, 0, 0, 0], "run from 0 to 2, not from 0 to 1"),
        ([None] * 6, "not judged"),
    ],
)
def test_where_no_answer_is_right_or_wrong_it_is_refused(
    outputs: Path, scores: list[float | None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(next(outputs.glob("*/*/cls-*")), scores)
    report = as_json(capsys, "--hard", str(outputs))
    assert [row["method"] for row in report["tables"][0]["runs"]] == ["random"]
    assert report["notes"][0].startswith("tiny on scenes, cls 90 %: ") and said in report["notes"][0]
    write(next(outputs.glob("*/*/none-*")), scores)
    with pytest.raises(UserError, match=said) as caught:
        compare(["--hard", str(outputs)])
    assert "\n" not in str(caught.value)


def test_without_references_one_line_says_what_to_run(tmp_path: Path) -> None:
    path = write(make_run(tmp_path, "cls", 0.9), CLS)
    with pytest.raises(UserError, match="no unpruned run of tiny on scenes: vlmprune run method=none"):
        compare(["--hard", str(tmp_path)])
    write(make_run(tmp_path, "none"), UNPRUNED)
    with pytest.raises(UserError, match=r"no pool run at the budget of cls 90 %: vlmprune run method=pool ratio=0\.9"):
        compare(["--hard", str(tmp_path)])
    (path / "predictions.jsonl").unlink()
    with pytest.raises(UserError, match=r"predictions\.jsonl is gone"):
        compare(["--hard", str(tmp_path)])


@pytest.mark.parametrize("other", ["--published", "html=x.html", "chart=x.png"])
def test_hard_is_a_table_alone(outputs: Path, other: str) -> None:
    with pytest.raises(UserError, match="give one of the two"):
        compare(["--hard", other, str(outputs)])
