"""Scores of prediction lines: metrics, the main score with its interval, scores by category; their record in the run
directory, after the judge's verdicts if the benchmark has a judge. Needs no model.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlmprune.benchmarks.base import Benchmark
from vlmprune.benchmarks.judging import Judge, describe_judge, judge_answers
from vlmprune.errors import UserError
from vlmprune.evaluation.identity import code_identity
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.results.statistics import clustered_interval
from vlmprune.version import __version__

Row = dict[str, Any]
RESAMPLES = 200  # for a metric that is no mean: each resample computes it over the whole set


def record_scores(
    directory: RunDirectory, rows: list[Row], result: dict[str, Any] | None, benchmark: Benchmark, judge: Judge | None
) -> dict[str, Any]:
    """Write scored prediction lines to the locked directory, and their scores to `result` and result.json; return them.

    rows: all lines; those of a judged benchmark get the judge's verdicts first, or keep those that they have without a
    judge. result: the content of result.json, None if the run is not finished. Raises UserError, and changes nothing,
    if verdicts are missing, or if the result is of another number of answers.
    """
    if result is not None and len(rows) != (count := result["answers"]["samples"]):
        raise UserError(
            f"{directory.path} has {len(rows)} answers, and its result.json is of {count}: delete result.json, and the "
            "command that made it asks for what is missing"
        )
    protocol = benchmark.protocol
    if protocol is not None and judge is not None:
        rows = judge_answers(rows, protocol, judge, directory.path)
    elif protocol is not None:
        rows = use_recorded_verdicts(rows, directory.path)
    scores = summarise_scores(rows, benchmark)
    if result is not None:
        result["answers"] |= scores
        tools = {"scorer": code_identity(type(benchmark))[:16]} | benchmark.scoring_tools()
        result["comparable"] = result["comparable"] | tools
        result["rescored"] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": __version__}
        if protocol is not None and judge is not None:
            result["judge"] = describe_judge(judge, protocol)
            result["comparable"]["judge"] = judge.model  # verdicts of two judges are two scales
    directory.replace_predictions(rows)
    if result is not None:
        directory.finish(result)
    return scores


def use_recorded_verdicts(rows: list[Row], folder: Path) -> list[Row]:
    """Return the rows with the score of their recorded verdict. Raise UserError if one has none."""
    open_rows = sum("verdict" not in row.get("extra", {}) for row in rows)
    if open_rows:
        raise UserError(
            f"{open_rows} of {len(rows)} answers have to be judged: "
            f"vlmprune score {folder} judge.base_url=https://host/v1 judge.model=NAME"
        )
    return [row | {"score": row["extra"]["verdict"]["score"]} for row in rows]


def summarise_scores(rows: list[dict[str, Any]], benchmark: Benchmark) -> dict[str, Any]:
    """Return the parts of result.json's `answers` that scoring sets; score, interval: None until all are judged."""
    metrics = benchmark.summarise(rows)
    score = benchmark.main_score(metrics) if metrics else None
    return {
        "metric": benchmark.metric.name,
        "score": score,
        "interval95": None if score is None else interval(rows, benchmark),
        "metrics": metrics,
        "samples": len(rows),
        "images": len({row["image_id"] for row in rows}),
        "by_category": by_category(rows),
    }


REPORT_SECONDS = 10.0
RUNNING_RESAMPLES = 200  # of a running score's interval: milliseconds, also for 10,000 questions


class RunningScore:
    """The mean score of the questions answered so far, which `report` gets every REPORT_SECONDS, and once at the end.

    rows: prediction lines of earlier parts of the run. A judged benchmark has no score before the end.
    """

    def __init__(self, report: Callable[[dict[str, float]], None], rows: list[Row]) -> None:
        self.report, self.earlier = report, len(rows)
        self._scores = [(row["image_id"], row["score"]) for row in rows]
        self._begun = time.monotonic()
        self._reported = -REPORT_SECONDS  # so that the first answers are reported at once

    def add(self, rows: list[Row]) -> None:
        """Count the lines of one batch of answers."""
        self._scores += [(row["image_id"], row["score"]) for row in rows]
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Report questions, questions per second of this part of the run, score, and its 95 % interval."""
        now, scores = time.monotonic(), [score for _, score in self._scores]
        values: dict[str, float] = {"questions": len(scores)}
        if (seconds := now - self._begun) > 0:
            values["questions_per_s"] = (len(scores) - self.earlier) / seconds
        if scores and None not in scores:
            images = [image for image, _ in self._scores]
            low, high = clustered_interval(scores, images, resamples=RUNNING_RESAMPLES)
            values |= {"score": sum(scores) / len(scores), "score_low": low, "score_high": high}
        self.report(values)
        self._reported = time.monotonic()


def interval(rows: list[dict[str, Any]], benchmark: Benchmark) -> list[float] | None:
    """Return the 95 % bootstrap interval of the main score: images (with all their questions) drawn with replacement.

    Return None for a metric that cannot be computed on a resample, such as CIDEr, whose weights need the whole set, and
    for one that is no mean over questions if there is one image alone.
    """
    units = benchmark.units(rows)
    if units is not None:
        return list(clustered_interval(*units))
    if not benchmark.resampled:
        return None
    clusters: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        clusters[row["image_id"]].append(row)
    if len(clusters) == 1:
        return None
    names, draw = sorted(clusters), random.Random(0)
    scores = []
    for _ in range(RESAMPLES):
        drawn = [
            row | {"image_id": f"{name}#{number}"}  # an image that is drawn twice counts as two
            for number, name in enumerate(draw.choices(names, k=len(names)))
            for row in clusters[name]
        ]
        score = benchmark.main_score(benchmark.summarise(drawn))
        assert score is not None
        scores.append(score)
    scores.sort()
    return [scores[round(0.025 * (RESAMPLES - 1))], scores[round(0.975 * (RESAMPLES - 1))]]


def by_category(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean score and number of samples of each category; the score is None if any sample has none."""
    scores = defaultdict(list)
    for row in rows:
        scores[row["category"]].append(row["score"])
    return {
        name: {"score": None if None in values else sum(values) / len(values), "samples": len(values)}
        for name, values in sorted(scores.items())
    }
