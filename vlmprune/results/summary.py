"""The summary at the end of a run, and the commands of the runs that are missing beside it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlmprune.config.overrides import AMOUNT, INEFFECTIVE_UNPRUNED, first_key
from vlmprune.results.runs import Run, find_comparable_runs
from vlmprune.results.text import format_flops, format_percent
from vlmprune.results.timing import latency_lines
from vlmprune.terminal import format_rate, print_pairs, print_result

OWN = ("method", *AMOUNT, "seed")  # settings that the other run does not take over


def make_command(settings: Iterable[str], method: str, amount: str = "", verb: str = "run") -> str:
    """Return the command of `method` at `amount` ('ratio=0.9') with the other `settings` of a run, as typed."""
    dropped = (*OWN, *INEFFECTIVE_UNPRUNED) if method == "none" else OWN
    same = [setting for setting in settings if first_key(setting) not in dropped]
    return shlex.join(["vlmprune", verb, f"method={method}", *amount.split(), *same])


def requested_amount(run: Run) -> str:
    """Return the requested amount of a run as a setting ('ratio=0.9'); '' for a published schedule."""
    if run.keep is not None:
        return f"keep={run.keep}"
    return "" if run.ratio is None else f"ratio={run.ratio:g}"


def equal_ratio(layer_averaged: float, total: float) -> str:
    """Return the ratio, as text, at which a method before the language model has as many tokens in every layer."""
    return f"{1 - layer_averaged / max(1, total):.4g}"


METRICS_SHOWN = 6
# Meaning of FLOPs by another convention than ours; ours counts all operations that run.
CONVENTIONS = {"fastervlm": "by FasterVLM's convention: visual tokens alone; no question, decoding or selection"}


def show_summary(
    result: dict[str, Any],
    unpruned: dict[str, Any] | None,
    directory: Path,
    wandb_line: str | None,
) -> None:
    """Print the result of one run to stdout. unpruned: the unpruned run's result, None if it does not exist."""
    from rich.text import Text

    amount = "" if result["ratio"] is None else f" at {format_percent(result['ratio'])} reduction"
    amount = amount if result["keep"] is None else f" keeping {result['keep']} tokens"
    heading = Text(f"{amount} · {result['model']} on {result['benchmark']}\n")
    print_result(Text(f"\n{result['method']}", "bold") + heading)
    print_pairs(summary_lines(result, unpruned))
    print_result(f"\nfiles  {directory}")
    if wandb_line:
        print_result(f"W&B    {wandb_line}")
    print_result(f"next   {suggestion(result, unpruned, directory)}")


def summary_lines(result: dict[str, Any], unpruned: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the summary as (name, value) rows."""
    answers, latency = result["answers"], result["timings"]["latency"]
    tokens = answers["tokens"]
    rows = [(answers["metric"], score_line(answers))]
    rows += other_metrics(answers)
    if bad := result["bad_samples"]["count"]:
        rows.append(("left out", f"{bad} broken samples, listed in bad.jsonl"))
    if result.get("media", "images") != "images":
        rows.append(("media", result["media"]))
    if result["method"] != "none" and answers["score"] is not None:
        rows.append(("relative score", relative_line(answers["score"], unpruned)))
    kept = tokens["kept"]
    spread = "" if kept["min"] == kept["max"] else f" ({kept['min']} to {kept['max']})"
    rows.append(
        (
            "visual tokens",
            f"{kept['mean']:g}{spread} of {tokens['total']:g} kept, "
            f"{tokens['layer_averaged']:.4g} averaged over the decoder's layers, which decides the cost",
        )
    )
    if line := nothing_removed(result):
        rows.append(("", line))
    if line := beyond_positions(answers):
        rows.append(("positions", line))
    rows.append(("FLOPs", flops_line(answers)))
    if (convention := (answers["flops"] or {}).get("convention")) in CONVENTIONS:
        rows.append(("", CONVENTIONS[convention]))
    if latency is not None:
        rows += latency_lines(latency, pruned=result["method"] != "none")
    rate = result["timings"].get("samples_per_s")
    if rate is not None:
        speed = f"{format_rate(rate, 1, 'questions')}{batches(result['timings'])}"
        rows.append(("evaluation", f"{speed}, peak memory {result['timings'].get('peak_memory_mb') or 0:.0f} MB"))
    if line := device_line(result["environment"]):
        rows.append(("device", line))
    return rows


def device_line(environment: dict[str, Any], why: str = "") -> str:
    """Return device, number of processes, dtype and attention as text, less those that an older result lacks.

    why: text after the device.
    """
    device, name, processes = (environment.get(key) for key in ("device", "device_name", "devices"))
    if device is None:
        return ""
    on = device if device == "cpu" or name is None else f"{name} ({device})"
    times = f"{processes} x " if (processes or 1) > 1 else ""
    attention = f"{environment['attention']} attention" if "attention" in environment else ""
    return ", ".join(filter(None, [f"{times}{on}{why}", environment.get("dtype"), attention]))


def nothing_removed(result: dict[str, Any]) -> str:
    """Return a warning if the requested amount removed no token of any question; '' if it did, or asked for none."""
    tokens = result["answers"]["tokens"]
    if tokens["layer_averaged"] < tokens["total"] or result["method"] == "none" or result["ratio"] == 0:
        return ""
    asked = ", ".join(f"{name}={result[name]}" for name in ("ratio", "keep") if result[name] is not None)
    return f"NOTHING WAS REMOVED: with {asked or 'these settings'} every question keeps all its visual tokens"


def beyond_positions(answers: dict[str, Any]) -> str:
    """Return a warning if prompts are longer than the decoder's positions; '' if none is, or if that is unknown."""
    positions = answers.get("positions") or {"beyond": 0}
    if not positions["beyond"]:
        return ""
    return (
        f"BEYOND THE DECODER'S {positions['limit']:,}: {positions['beyond']:,} of {answers['samples']:,} questions "
        f"(up to {positions['longest']:,}), whose answers it was not trained to give"
    )


def batches(timings: dict[str, Any]) -> str:
    """Return the batch size of the evaluation as text, and the requested one if that ran out of memory."""
    if "evaluation" not in timings:  # an older result
        return ""
    size = timings["evaluation"]["batch_size"]
    less = f" ({size['asked']} ran out of memory)" if size["used"] < size["asked"] else ""
    return f" in batches of {size['used']}{less}"


def flops_line(answers: dict[str, Any]) -> str:
    """Return the FLOPs of a question as text, or the reason why they are unknown."""
    flops = answers["flops"]
    if flops is None:
        return f"-  ({answers.get('flops_unknown', 'unknown')})"
    parts = ", ".join(f"{part} {format_flops(flops[part])}" for part in ("vision", "prefill") if part in flops)
    total, share = format_flops(flops["total"]), flops["total"] / flops["unpruned_total"]
    return f"{total} a question, {share:.0%} of unpruned ({parts})"


def score_line(answers: dict[str, Any]) -> str:
    """Return the main score with its interval as text, or the reason why there is none."""
    asked = f"{answers['samples']:,} questions, {answers['images']:,} images"
    if answers["score"] is None:
        return f"none yet  ({asked}; vlmprune score judges them, or a server that has the answers)"
    if answers["interval95"] is None:
        return f"{format_percent(answers['score'])}  ({asked})"
    low, high = map(format_percent, answers["interval95"])
    return f"{format_percent(answers['score'])}  (95 % interval {low} to {high}; {asked})"


def other_metrics(answers: dict[str, Any]) -> list[tuple[str, str]]:
    """Return one row with the benchmark's metrics; [] if there are none beside the score."""
    metrics = answers.get("metrics", {})
    if list(metrics) in ([], [answers["metric"]]):
        return []
    shown = list(metrics.items())[:METRICS_SHOWN]
    more = f" · and {len(metrics) - len(shown)} more in result.json" if len(metrics) > len(shown) else ""
    return [("metrics", " · ".join(f"{name} {value:.4g}" for name, value in shown) + more)]


def relative_line(score: float, unpruned: dict[str, Any] | None) -> str:
    """Return the score as a share of the unpruned score, measured here, or the reason why there is none."""
    if unpruned is None:
        return "unknown until the unpruned run exists"
    bare = unpruned["answers"]["score"]
    if bare is None:
        return "unknown until the unpruned run is judged"
    if not bare:
        return "undefined: the unpruned score is 0"
    flattered = (unpruned["answers"].get("positions") or {"beyond": 0})["beyond"]
    why = (
        f", which flatters: {flattered:,} unpruned prompts are longer than the decoder's positions" if flattered else ""
    )
    return f"{format_percent(score / bare)} of unpruned ({format_percent(bare)}){why}"


def suggestion(result: dict[str, Any], unpruned: dict[str, Any] | None, directory: Path) -> str:
    """Return a command to run next, with the settings of this run in `directory`."""
    settings = result.get("settings", [])
    if result["method"] == "none":
        if not find_comparable_runs(result, directory, "cls-0.95-*"):
            return make_command(settings, "cls", "ratio=0.95")
    elif unpruned is None:
        return f"{make_command(settings, 'none')}   (for the relative score)"
    others = make_command(settings, "cls,fastv,uniform", "ratio=0.5,0.75,0.9,0.95", "sweep")
    return f"{others}   then: vlmprune compare"
