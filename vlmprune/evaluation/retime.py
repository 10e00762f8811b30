"""The latency of a finished run, measured again with the run's own settings; its answers are not touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmprune.config.overrides import first_key
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models
from vlmprune.evaluation.latency_pass import measure_questions
from vlmprune.evaluation.plan import Plan, Resources, make_plan
from vlmprune.evaluation.run_directory import RunDirectory, read_result
from vlmprune.results.runs import count_lines
from vlmprune.terminal import Phases

# Settings that change no time, of which a judge and a logger of the user's own may be missing here.
IDLE = ("judge", "logger", "features", "show", "outputs", "devices")
CAUSES = {
    "model": "the checkpoint",
    "benchmark": "the benchmark's settings or data",
    "prompt": "the prompt",
    "subset": "the number of questions",
    "dtype": "the dtype",
    "engine": "vlmprune's engine",
    "scorer": "the benchmark's code",
}


def plan_retiming(folder: Path, overrides: tuple[str, ...], config_dir: str | None, resources: Resources) -> Plan:
    """Return the plan of the finished run in `folder`, with its settings as typed and then `overrides`.

    Nothing recorded is imported: a method or benchmark of the user's own needs `config_dir` again. Raise UserError,
    before any weight is loaded, if the run is not finished, or if it would not be the same run today.
    """
    file = folder / "result.json"
    if not folder.is_dir() or not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run directory: it has no config.yaml")
    if not file.exists():
        done = count_lines(folder, "predictions.jsonl")
        raise UserError(f"{folder} is not finished, {done} questions answered: the same `vlmprune run` resumes it")
    result = read_result(file)
    given = {first_key(each) for each in overrides}
    typed = [each for each in result.get("settings", []) if not each.startswith("--")]
    own = [each for each in typed if first_key(each) not in (*IDLE, *given)]
    try:
        plan = make_plan(compose_run([*own, *overrides, "logger=none"], config_dir), resources)
    except UserError as error:
        raise UserError(f"{folder} cannot be timed: {error}") from error
    if plan.directory.fingerprint != result["fingerprint"]:
        raise UserError(
            f"{folder} cannot be timed: {_changes(plan, result)} changed since it was made, so that it would be "
            "another run today; run it again"
        )
    if plan.config.latency_samples == 0:
        raise UserError(f"{folder} was run with latency_samples=0: give latency_samples=16 to time 16 questions")
    return replace(plan, directory=RunDirectory(folder, result["fingerprint"]))


def _changes(plan: Plan, result: dict[str, Any]) -> str:
    """Return in words why the run would be another one today."""
    then, now = result["comparable"], plan.comparable
    found = [words for name, words in CAUSES.items() if name in then and then[name] != now.get(name)]
    return " and ".join(found) or "the method's code or a setting of the model"


def retime(plan: Plan, resources: Resources) -> dict[str, Any]:
    """Measure the latency of the plan's finished run and return its result, which result.json then has.

    Earlier figures are kept under `timings.earlier_latency`, each with its date. A kill leaves the old result.json.
    """
    directory = plan.directory
    with directory.lock():
        result = directory.result
        if result is None:
            raise UserError(f"{directory.path} is not finished any more: its result.json is gone")
        broken = {row["id"] for row in directory.bad()}
        usable = [sample for sample in plan.samples if sample.id not in broken]
        phases = Phases(result["method"])
        with phases.show("load"):
            loaded, tower = load_models(plan, resources)
        count = min(plan.config.latency_samples, len(usable))
        with phases.show("timing", count) as advance:
            latency, cache = measure_questions(usable, plan.benchmark, loaded, plan.method, count, tower, advance)
        timings = result["timings"]
        if (before := timings["latency"]) is not None:
            dated = {"measured": result["finished"]} if "finished" in result else {}
            timings["earlier_latency"] = [*timings.get("earlier_latency", []), dated | before]
        timings |= {"latency": latency, "kv_cache_bytes": cache}
        directory.finish(result)
    return result
