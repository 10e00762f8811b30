"""Data of a run for an experiment tracker: settings and results as flat names and plain numbers, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.report.picture_index import FOLDER, read_index
from vlmprune.report.runs import unpruned_beside

if TYPE_CHECKING:
    from PIL.Image import Image

LATENCIES = ("vision", "selection", "projector", "prefill", "decode_per_token", "end_to_end")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as `method.k`, one column each, without descriptions and the logger's settings."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("info", "logger"):
            continue
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def summary_of(result: dict[str, Any], directory: Path) -> dict[str, float]:
    """Return the numbers of result.json by which runs are compared; milliseconds, MB, FLOPs per question, tokens."""
    answers, timings = result["answers"], result["timings"]
    tokens = answers["tokens"]
    low, high = answers["interval95"] or (None, None)
    unpruned = unpruned_beside(result, directory)
    values: dict[str, float | None] = {
        "score": answers["score"],
        "score_low": low,
        "score_high": high,
        "relative_score": answers["score"] / unpruned if unpruned and answers["score"] is not None else None,
        "ratio": result["ratio"],
        "reduction": 1 - tokens["kept"]["mean"] / tokens["total"] if tokens["total"] else None,
        "questions": answers["samples"],
        "tokens/total": tokens["total"],
        "tokens/kept": tokens["kept"]["mean"],
        "tokens/layer_averaged": tokens["layer_averaged"],
        "tokens/sequence": tokens["sequence"],
        "memory/peak_mb": timings["peak_memory_mb"],
        "questions_per_s": timings["samples_per_s"],
    }
    values |= {f"flops/{part}": value for part, value in (answers["flops"] or {}).items()}
    values |= {f"metrics/{name}": value for name, value in answers["metrics"].items()}
    values |= {f"score/{name}": entry["score"] for name, entry in answers["by_category"].items()}
    for side, parts in (timings["latency"] or {}).items():
        if isinstance(parts, dict):  # the others are samples and batch_size
            values |= {f"latency/{side}/{part}_ms": parts[part]["median_ms"] for part in LATENCIES if parts.get(part)}
    values |= {f"kv_cache/{side}_bytes": value for side, value in (timings["kv_cache_bytes"] or {}).items()}
    return {name: value for name, value in values.items() if value is not None}


def pictures_of(directory: Path) -> dict[str, Path]:
    """Return question id -> picture of its kept tokens, as the run saved them; {} if it saved none."""
    return {each["id"]: directory / FOLDER / each["file"] for each in read_index(directory)}


def of_one_size(files: list[Path]) -> list[Image]:
    """Return the pictures, filled with white to one size: W&B steps through a row of one size only."""
    from PIL import Image

    pictures = [Image.open(file).convert("RGB") for file in files]
    size = (max(each.width for each in pictures), max(each.height for each in pictures)) if pictures else (0, 0)
    sheets = [Image.new("RGB", size, "white") for _ in pictures]
    for sheet, picture in zip(sheets, pictures, strict=True):
        sheet.paste(picture)
    return sheets


def spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return at most `count` rows at even distances, so that each part of the benchmark is seen; always the same."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]
