"""Run directories as the runner leaves them, made up: scores that fall with the ratio, at a pace of each method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlmprune.cli.compare import compare
from vlmprune.results.statistics import clustered_interval
from vlmprune.source_code import ENGINE

TOTAL, IMAGES, PER_IMAGE = 144, 40, 8
LOSS = {
    "none": 0.0,
    "cls": 0.16,
    "fastv": 0.24,
    "visionzip": 0.13,
    "random": 0.34,
    "uniform": 0.29,
    "pool": 0.2,
    "vtc_cls": 0.17,
}


def make_run(
    outputs: Path,
    method: str,
    ratio: float | None = None,
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    model: str = "tiny",
    benchmark: str = "scenes",
    finished: bool = True,
    **changes: Any,
) -> Path:
    """Write one run directory and return it. changes: into result.json's top level (comparable: merged)."""
    removed = ratio or 0.0
    accuracy = 0.45 if removed == 1 else 0.82 - LOSS[method] * removed**3
    draws = np.random.default_rng(7).random(IMAGES * PER_IMAGE)  # the same questions are hard for every method
    noise = np.random.default_rng([len(method), int(100 * removed), seed]).normal(0, 0.05, IMAGES * PER_IMAGE)
    rows = [
        {
            "id": f"q{i}",
            "image_id": f"image{i // PER_IMAGE}",
            "category": ("color", "count")[i % 2],
            "question": f"What is {i}?",
            "answer": "red",
            "prediction": "red" if score else "blue",
            "score": score,
        }
        for i, score in enumerate((draws + noise < accuracy).astype(float).tolist())
    ]
    result = make_result(method, ratio, rows, model=model, benchmark=benchmark)
    result["comparable"] |= changes.pop("comparable", {})
    result |= changes
    name = f"{method}-{'default' if ratio is None else f'{ratio:g}'}-{result['fingerprint'][:11]}{seed}"
    path = outputs / benchmark / model / name
    path.mkdir(parents=True)
    config = {"method": {"_target_": f"vlmprune.methods.{method}.X", "info": {"title": "x"}, **(settings or {})}}
    (path / "config.yaml").write_text(json.dumps(config))
    (path / "environment.json").write_text("{}")
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (path / "result.json").write_text(json.dumps(result))
    return path


def change_result(run: Path, answers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Write the result of a run again with other `answers` and other `fields`, and return it."""
    result = json.loads((run / "result.json").read_text()) | fields
    result["answers"] |= answers
    (run / "result.json").write_text(json.dumps(result))
    return result


def make_outputs(folder: Path) -> Path:
    """The unpruned run, random and two methods at two ratios, and one that was interrupted, in `folder`."""
    make_run(folder, "none")
    for method in ("random", "cls", "fastv"):
        for ratio in (0.5, 0.9):
            make_run(folder, method, ratio)
    make_run(folder, "uniform", 0.5, finished=False)
    return folder


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON that `vlmprune compare` prints."""
    assert compare([*arguments, "format=json"]) == 0
    return json.loads(capsys.readouterr().out)


def make_result(
    method: str, ratio: float | None, rows: list[dict[str, Any]], model: str = "tiny", benchmark: str = "scenes"
) -> dict[str, Any]:
    """result.json of the documented schema for these predictions."""
    kept = TOTAL - round(TOTAL * (ratio or 0.0))
    layer_averaged = (2 * TOTAL + 4 * kept) / 6 if method == "fastv" else float(kept)
    scores = [row["score"] for row in rows]
    total = 0.9e9 + 1.4e7 * layer_averaged
    prefill, unpruned = 2.0 + 0.05 * layer_averaged, 2.0 + 0.05 * TOTAL

    def times(prefill_ms: float) -> dict[str, dict[str, float] | None]:
        parts = {"vision": 3.0, "selection": 0.2, "projector": 0.1, "prefill": prefill_ms, "end_to_end": 9 + prefill_ms}
        return {name: {"median_ms": ms, "p90_ms": 1.2 * ms} for name, ms in parts.items()} | {"decode_per_token": None}

    return {
        "schema": 1,
        "fingerprint": f"{method}{ratio}".encode().hex().ljust(64, "0"),
        "settings": [f"method={method}", "outputs=o"] + ([] if ratio is None else [f"ratio={ratio}"]),
        "model": model,
        "method": method,
        "benchmark": benchmark,
        "ratio": ratio,
        "keep": None,
        "subset": {"limit": None, "shard": None, "seed": 0},
        "comparable": {
            "benchmark": f"{benchmark}-hash",
            "subset": "all",
            "prompt": "p",
            "model": f"{model}-hash",
            "dtype": "float32",
            "engine": str(ENGINE),
        },
        "answers": {
            "metric": "accuracy",
            "score": sum(scores) / len(scores),
            "interval95": list(clustered_interval(scores, [row["image_id"] for row in rows], resamples=500)),
            "samples": len(rows),
            "images": IMAGES,
            "metrics": {"accuracy": sum(scores) / len(scores)},
            "by_category": {"color": {"score": 0.8, "samples": 100}},
            "tokens": {
                "total": float(TOTAL),
                "kept": {"mean": float(kept), "min": kept, "max": kept},
                "layer_averaged": layer_averaged,
                "sequence": kept + 24.2,
            },
            "flops": {
                "vision": 5e8,
                "projector": 1e7,
                "selection": 1e5,
                "prefill": total - 5.2e8,
                "decode": 1e7,
                "total": total,
                "unpruned_total": 0.9e9 + 1.4e7 * TOTAL,
            },
        },
        "media": "images",
        "bad_samples": {"count": 0, "ids": []},
        "timings": {
            "latency": {"pruned": times(prefill), "unpruned": times(unpruned), "samples": 16, "batch_size": 1},
            "evaluation_s": 12.3,
            "evaluation": {"batch_size": {"asked": 32, "used": 32}},
            "samples_per_s": 80.1,
            "peak_memory_mb": 900.0,
            "kv_cache_bytes": {"pruned": 1000, "unpruned": 9000},
        },
        "environment": {
            "device": "cpu",
            "dtype": "float32",
            "attention": "sdpa",
            "batch_size": 32,
            "versions": {"torch": "2.13.0"},
        },
        "finished": "2026-11-21T05:00:00+00:00",
    }


def picture(question: str, file: str) -> dict[str, Any]:
    """An entry of pictures/index.json."""
    words = {"question": "What?", "answer": "red", "prediction": "red"}
    return {"file": file, "id": question, **words, "score": 1.0, "kept": 14, "total": 144}
