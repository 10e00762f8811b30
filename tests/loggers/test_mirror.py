"""The mirror's summary and samples of a run; importing a logger imports no tracker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.results.synthetic import make_run
from vlmprune.config.registry import DESCRIPTION, find_choices, read_choice, target_class
from vlmprune.config.typecheck import construct
from vlmprune.loggers.base import Logger, NoLogger
from vlmprune.loggers.wandb import sample_evenly, summarise_result


def test_summary_of_a_run_without_latency_or_baseline(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "cls", 0.5)
    result = json.loads((directory / "result.json").read_text())
    result["timings"] |= {"latency": None, "kv_cache_bytes": None, "samples_per_s": None}
    summary = summarise_result(result, directory)
    assert "relative_score" not in summary and not [name for name in summary if name.startswith("latency")]
    assert summary["tokens/kept"] == 72 and summary["ratio"] == 0.5


def test_a_slash_in_a_name_is_no_section_of_charts(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "cls", 0.5)
    result = json.loads((directory / "result.json").read_text())
    result["answers"]["by_category"] = {"text/numbers": {"score": 0.5, "samples": 4}}
    result["answers"]["metrics"] = {"a/b": 0.25}
    summary = summarise_result(result, directory)
    assert summary["score/text%2Fnumbers"] == 0.5 and summary["metrics/a%2Fb"] == 0.25


def test_relative_score_needs_a_comparable_unpruned_run(tmp_path: Path) -> None:
    directory = make_run(tmp_path, "cls", 0.5)
    make_run(tmp_path, "none", comparable={"subset": "limit=10,seed=0"})
    assert "relative_score" not in summarise_result(json.loads((directory / "result.json").read_text()), directory)


def test_spread_takes_from_all_over() -> None:
    rows = [{"id": i} for i in range(10)]
    assert [row["id"] for row in sample_evenly(rows, 4)] == [0, 2, 5, 7]
    assert sample_evenly(rows, 20) == rows and sample_evenly([], 3) == [] and sample_evenly(rows, 0) == []


def test_every_choice_is_a_logger_with_its_fields() -> None:
    for name in find_choices("logger"):
        config = read_choice("logger", name)
        cls = target_class(config["_target_"], Logger)
        settings = {key: value for key, value in config.items() if key not in DESCRIPTION}
        assert construct(cls, settings, "logger.") == cls()  # the YAML's values are the class's defaults


def test_no_logger_does_nothing(tmp_path: Path) -> None:
    logger = NoLogger()
    logger.place(tmp_path, tmp_path)
    logger.start({}, "f", None)
    logger.log_result({}, [])
    logger.finish(0)
    assert logger.line is None and not list(tmp_path.iterdir())


def test_imports_are_light() -> None:
    code = (
        "import sys, vlmprune.loggers.wandb, vlmprune.cli.compare\n"
        "print([m for m in ('torch', 'transformers', 'wandb', 'numpy', 'matplotlib', 'rich') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
