"""Splits whose answers are not public: asked, without a score, with a file for the server, whatever the benchmark."""

from __future__ import annotations

import importlib.util

import pytest
from datasets import Dataset

from tests.benchmarks.fixtures import ROWS
from tests.benchmarks.loading import build
from tests.benchmarks.test_scores import predictions
from vlmprune.benchmarks.base import BadSample
from vlmprune.config.registry import read_choice
from vlmprune.evaluation.scores import summarise_scores

pytestmark = pytest.mark.usefixtures("words")


def unlabelled(name, tmp_path, videos, hidden=None):
    """The benchmark with `hidden` in place of its answers, in one file; gqa's pictures are not needed."""
    settings = read_choice("benchmark", name)
    column = settings["columns"]["answer"].rstrip("?")
    rows = [ROWS[name](k) | {column: hidden} for k in range(4)]
    Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
    overrides = [f"benchmark={name}", f"benchmark.path={tmp_path}/test.parquet"]
    return build(overrides + ([f"benchmark.videos={videos}"] if "videos" in settings else []))


NAMES = sorted(set(ROWS) - {"folder", "gqa", "mvbench"})  # those of one file
SUBMITTED = {"vqav2", "vizwiz", "mmbench", "mmbench_cn", "mmvet", "seed"}


@pytest.mark.parametrize("name", NAMES)
def test_no_answers_no_score(name, tmp_path, videos, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "pycocoevalcap" or found(name))
    benchmark = unlabelled(name, tmp_path, videos)
    rows = predictions(benchmark, lambda _: "yes")
    assert len(rows) == 4 and {row["score"] for row in rows} == {None}
    found = summarise_scores(rows, benchmark)
    assert found["score"] is None and found["interval95"] is None and found["metrics"] == {}
    assert {entry["score"] for entry in found["by_category"].values()} == {None}
    assert bool(benchmark.submission_file(rows)) == (name in SUBMITTED)


def test_mmmu_writes_a_question_mark(tmp_path, videos):
    benchmark = unlabelled("mmmu", tmp_path, videos, hidden="?")
    rows = predictions(benchmark, lambda _: "A")
    assert len(rows) == 4 and summarise_scores(rows, benchmark)["score"] is None


def test_gqa(overrides):
    benchmark = build(overrides("gqa"))
    (sample, *_) = benchmark.load()
    assert benchmark.score("", sample) == 0.0
    object.__setattr__(sample, "answer", "")
    assert benchmark.score("", sample) is None


def test_one_empty_answer_among_others_is_a_bad_sample(tmp_path):
    rows = [ROWS["okvqa"](k) for k in range(3)]
    rows[0]["answers"][0] = ""  # of ten
    rows[1]["answers"] = ["", " "]
    Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
    benchmark = build(["benchmark=okvqa", f"benchmark.path={tmp_path}/test.parquet"])
    samples = benchmark.load()
    assert [sample.answer for sample in samples] == ["racing", "", "race"]
    with pytest.raises(BadSample, match="its answer is empty"):
        benchmark.images(samples[1])
