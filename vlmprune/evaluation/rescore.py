"""New scores for the answers of a run directory, by the current scorer or a judge, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.benchmarks.contract import with_checks
from vlmprune.benchmarks.judging import Judge
from vlmprune.config.registry import DESCRIPTION, check_recorded_target, target_class, target_of
from vlmprune.config.typecheck import construct
from vlmprune.errors import UserError, error_text
from vlmprune.evaluation.run_directory import RunDirectory, read_answers, read_result
from vlmprune.evaluation.scores import record_scores
from vlmprune.results.line_schema import Answered
from vlmprune.results.runs import read_config

Row = dict[str, Any]


def rescore(
    folder: Path, judge: Judge | None, config_dir: str | None = None
) -> tuple[dict[str, Any], float | None, bool]:
    """Score the answers in `folder`, and update predictions.jsonl and, if the run is finished, result.json.

    Returns the scores (as from `summarise_scores`), the score before, and True if the run is finished. Timings and all
    else in result.json stay. Raises UserError if the folder is not a run or a judge is needed.
    """
    benchmark = read_benchmark(folder, config_dir)
    if judge is not None and benchmark.protocol is None:
        raise UserError(f"{folder} is scored by rule, without a judge: leave out judge.*")
    directory = RunDirectory(folder, "")
    with directory.lock():
        answers = read_answers(folder / "predictions.jsonl", Answered)
        rows = [score_line(row, benchmark, folder) for row in answers]
        if not rows:
            raise UserError(f"{folder} has no answers: run it first")
        result = read_result(folder / "result.json") if (folder / "result.json").exists() else None
        before = None if result is None else result["answers"]["score"]
        scores = record_scores(directory, rows, result, benchmark, judge)
    return scores, before, result is not None


def read_benchmark(folder: Path, config_dir: str | None = None) -> Benchmark:
    """Return the benchmark of a run directory's config.yaml, without reading its data. Raise UserError if that fails.

    A run directory may come from anyone: its file is plain data, and a class that it names is imported only if a
    benchmark of this installation, or of `config_dir`, has that class.
    """
    file = folder / "config.yaml"
    try:
        config = read_config(file).get("benchmark")
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a run directory: it has no config.yaml") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error_text(error)}") from error
    if config is None:
        raise UserError(f"{file} cannot be read: benchmark is missing")
    settings = {key: value for key, value in config.items() if key not in DESCRIPTION}
    try:
        target = check_recorded_target(target_of(config, "benchmark"), "benchmark", config_dir)
        return with_checks(construct(target_class(target, Benchmark), settings, "benchmark."))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def score_line(row: Any, benchmark: Benchmark, folder: Path) -> Row:
    """Return a prediction line with the current score. Raise UserError if the line is damaged."""
    try:
        fields = {key: row[key] for key in ("id", "image_id", "question", "answer", "category")}
        return row | {"score": benchmark.score(row["prediction"], Sample(**fields, extra=row.get("extra", {})))}
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # a line that vlmprune did not write
        name = row.get("id") if isinstance(row, dict) else row
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}/predictions.jsonl: the answer to {name} cannot be scored ({reason})") from error
