"""Attention as the reference repositories read it, against vlmprune: the same model, prompts, tokens and process.

    vlmprune           SDPA; the rows of attention that a method reads are computed apart
    output_attentions  eager attention everywhere, and output_attentions=True of encoder and generate(), as published
                       code reads them; what is kept is chosen by vlmprune's own code, so that both drop the same
                       tokens, and encoder layers that nothing reads are skipped, which published code does not

Whole answers are timed at the smallest batch size that is given. At larger ones the maps of all layers do not fit into
any GPU (LLaVA-NeXT at batch 16: 280 GB), so that there the vision encoder alone is compared. Settings are those of
`vlmprune speed`; the ways run in turn, and the tokens that they keep are compared.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vlmprune.cli import speed
from vlmprune.config.arguments import parse
from vlmprune.engine.session import Session
from vlmprune.engine.timing import Intervals
from vlmprune.errors import UserError
from vlmprune.evaluation.generation import greedy
from vlmprune.evaluation.plan import model_name
from vlmprune.files import check_writable, to_json
from vlmprune.measure.environment import describe_conditions
from vlmprune.measure.latency import synchronize, timestamp
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.models.loading import LoadedModel
from vlmprune.speed import Load
from vlmprune.speed.load import Case, SyntheticBatch, make_batch, plan_cases
from vlmprune.speed.rows import load_model

WAYS = ("vlmprune", "output_attentions")
PROMPT = ("input_ids", "attention_mask", "mm_token_type_ids")


@contextmanager
def way(loaded: LoadedModel, name: str) -> Iterator[dict[str, Any]]:
    """The model prepared for one way, and what generate() is asked for."""
    if name == "vlmprune":
        yield {}
        return
    model, kernel = loaded.model, loaded.model.config._attn_implementation
    towers = loaded.adapter.vision_towers
    model.set_attn_implementation("eager")
    for tower in towers:
        tower.forward = lambda *args, _forward=tower.forward, **kwargs: _forward(
            *args, **kwargs | {"output_attentions": True}
        )
    try:
        yield {"output_attentions": True, "return_dict_in_generate": True}
    finally:
        for tower in towers:
            del tower.forward
        model.set_attn_implementation(kernel)


def answer(loaded: LoadedModel, case: Case, prompts: SyntheticBatch, name: str, load: Load) -> Any:
    """Whole answers; returns the tokens that were kept."""
    with way(loaded, name) as options, Session(loaded.adapter, case.method) as session:
        greedy(loaded, prompts.inputs, load.new_tokens, eos_token_id=None, **options)
    return session.record.kept


def encode(loaded: LoadedModel, case: Case, prompts: SyntheticBatch, name: str, _: Load) -> Any:
    """Vision encoder, projector and selection alone; returns which embeddings are marked as dropped."""
    media = {key: given for key, given in prompts.inputs.items() if key not in PROMPT}
    with way(loaded, name), Session(loaded.adapter, case.method), torch.inference_mode():
        features = loaded.model.get_image_features(**media).pooler_output
    return torch.cat([each[..., 0].isnan().flatten() for each in features])


def compare(run: Any, loaded: LoadedModel, case: Case, prompts: SyntheticBatch, load: Load) -> dict[str, Any]:
    """Median ms and peak MB of both ways. Raises SystemExit where they keep different tokens."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    peaks, kept = dict.fromkeys(WAYS, 0.0), {}
    for turn in range(load.warm_up + load.repeats):
        for name in WAYS:
            reset_peak(loaded.device)
            synchronize(loaded.device)
            span, start = Intervals(), timestamp(loaded.device)
            kept[name] = run(loaded, case, prompts, name, load)
            span.add(start, timestamp(loaded.device))
            peaks[name] = max(peaks[name], peak_mb(loaded.device))
            if turn >= load.warm_up:
                times[name].append(span.milliseconds())
    same = kept[WAYS[0]] is None or torch.equal(kept[WAYS[0]], kept[WAYS[1]])
    if not same and loaded.model.dtype == torch.float32:
        raise SystemExit(f"{case.label}: the two ways keep different tokens")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "what": run.__name__,
        "label": case.label,
        "ratio": case.ratio,
        "keep": case.keep,
        "batch_size": prompts.batch_size,
        "median_ms": medians,
        "times_faster": medians[WAYS[1]] / medians[WAYS[0]],
        "peak_memory_mb": peaks,
        "same_tokens": same,  # half precision rounds otherwise in another kernel
    }


def main(settings: list[str]) -> None:
    if "--help" in settings or "-h" in settings:
        print(f"python scripts/bench_output_attentions.py [key=value ...]\n\n{__doc__}")
        return
    request = parse("speed", speed.Settings, settings)
    planned = plan_cases(request.overrides, request.config_dir)
    folder = Path(planned.config.outputs) / "speed" / model_name(planned.config)
    file = request.json or folder / "output_attentions.json"
    check_writable("json", file)
    loaded = load_model(planned)
    rows = []
    print(f"{'':<8}{'method':<12}{'batch':>6}{'removed':>9}", end="")
    print(f"{WAYS[0]:>14} ms{WAYS[1]:>20} ms{'faster':>9}{'peak MB of each':>18}  same")
    for size in planned.batch_sizes:
        prompts = make_batch(loaded, request.speed, size)
        run = answer if size == planned.batch_sizes[0] else encode
        for case in planned.cases:
            row = compare(run, loaded, case, prompts, request.speed)
            rows.append(row)
            ms, peak = ([row[key][name] for name in WAYS] for key in ("median_ms", "peak_memory_mb"))
            removed = "" if case.ratio is None else f"{case.ratio:.0%}"
            print(
                f"{row['what']:<8}{case.label:<12}{size:>6}{removed:>9}{ms[0]:>17.1f}{ms[1]:>23.1f}"
                f"{row['times_faster']:>8.2f}x{peak[0]:>9.0f}{peak[1]:>9.0f}  {'yes' if row['same_tokens'] else 'NO'}",
                flush=True,
            )
    result = {
        "schema": 1,
        "command": shlex.join(["python", "scripts/bench_output_attentions.py", *settings]),
        "model": {"name": model_name(planned.config), "checkpoint": planned.checkpoint.identity},
        "load": asdict(request.speed),
        "conditions": describe_conditions(loaded.model),
        "rows": rows,
    }
    file.write_text(to_json(result))
    print(f"files  {file}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"bench_output_attentions: {error}") from error
