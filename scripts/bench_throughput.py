"""Questions per second of the runner against a plain loop, with the same model, questions and answers, in one process.

    loop     one question at a time, as published code evaluates: decode and preprocess the image, run the vision tower
             with eager attention and output_attentions=True, keep what [CLS] attends to, generate() from the kept
             embeddings. --all-attentions asks generate() for its attentions too.
    runner   vlmprune's evaluation as `vlmprune run method=cls` does it, predictions written to a run directory

Each way is timed over the same questions in turn, --rounds times; the ratio is the median over rounds. The breakdown
says where the time went: media is decoding and preprocessing (in the runner the part that was waited for), vision,
prefill and decode are the model's, other is the rest. --sweep instead times `vlmprune sweep` of 4 methods x 5 ratios
against 20 runs in processes of their own. Ends with an error where answers differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vlmprune.config.settings import compose_run
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.engine.session import Session
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import Evaluation, EvaluationSettings
from vlmprune.evaluation.plan import Plan, make_plan
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.methods.base import top_k
from vlmprune.models import loading
from vlmprune.models.loading import LoadedModel

METHODS, RATIOS = ("cls", "fastv", "divprune", "random"), (0.25, 0.5, 0.75, 0.9, 0.95)


class Parts:
    """Seconds by part of what a model does, told apart by hooks on the tower and on forward passes."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.seconds = loaded, defaultdict(float)

    @contextmanager
    def watch(self) -> Iterator[dict[str, float]]:
        """Yields the seconds, complete at the end, with `total`."""
        handles = []
        adapter = self.loaded.adapter
        for module, part in [(tower, "vision") for tower in adapter.vision_towers] + [(adapter.language_model, "")]:
            handles.append(module.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(partial(self._end, part), with_kwargs=True))
        self.seconds.clear()
        start = self._now()
        try:
            yield self.seconds
        finally:
            for handle in handles:
                handle.remove()
        self.seconds["total"] = self._now() - start
        known = sum(self.seconds[part] for part in ("media", "vision", "prefill", "decode"))
        self.seconds["other"] = self.seconds["total"] - known

    def _now(self) -> float:
        if self.loaded.device.type == "cuda":
            torch.cuda.synchronize(self.loaded.device)
        return time.perf_counter()

    def _begin(self, _module: Any, _args: tuple, kwargs: dict[str, Any]) -> None:
        embeds = kwargs.get("inputs_embeds")
        self._part = "decode" if embeds is not None and embeds.shape[1] == 1 else "prefill"
        self._start = self._now()

    def _end(self, part: str, *_: Any) -> None:
        self.seconds[part or self._part] += self._now() - self._start


def loop(
    plan: Plan, loaded: LoadedModel, parts: Parts, all_attentions: bool
) -> tuple[dict[str, str], dict[str, float]]:
    """Answers by question id, and seconds by part, of the plain loop."""
    model, benchmark, layer = loaded.model, plan.benchmark, loaded.adapter.tower.feature_layer
    answers = {}
    with parts.watch() as seconds, torch.inference_mode():
        for sample in plan.samples:
            start = time.perf_counter()
            media = loaded.preprocessor.media(benchmark.images(sample), sample.media)
            inputs = loaded.preprocessor.batch([benchmark.prompt(sample)], [media], loaded.device, model.dtype)
            seconds["media"] += time.perf_counter() - start
            seen = model.model.vision_tower(inputs["pixel_values"], output_hidden_states=True, output_attentions=True)
            scores = seen.attentions[layer][:, :, 0, 1:].mean(dim=1)
            kept = top_k(scores, plan.method.count(scores.shape[1]))
            patches = seen.hidden_states[layer + 1][:, 1:]
            visual = model.model.multi_modal_projector(
                patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[2]))
            )
            ids = inputs["input_ids"][0]
            places = loaded.adapter.visual_mask(ids).nonzero()
            words = model.get_input_embeddings()(ids)
            embeds = torch.cat([words[: places.min()], visual[0], words[places.max() + 1 :]]).unsqueeze(0)
            output = model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
                max_new_tokens=benchmark.max_new_tokens,
                do_sample=False,
                output_attentions=all_attentions,
                return_dict_in_generate=True,
            )
            (answers[sample.id],) = loaded.preprocessor.decode(output.sequences)
    return answers, dict(seconds)


def runner(plan: Plan, loaded: LoadedModel, parts: Parts, batch_size: int) -> tuple[dict[str, str], dict[str, float]]:
    """The same of vlmprune's own evaluation, into a fresh run directory and with an empty feature store."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder), plan.directory.fingerprint)
        session = Session(loaded.adapter, plan.method, features=EncodingStore(2**30))
        with parts.watch() as seconds:
            settings = EvaluationSettings(batch_size)
            evaluation = Evaluation(plan.benchmark, loaded, session, directory, lambda _n: None, settings)
            evaluation.run(plan.samples)
            seconds["media"] = evaluation.spent.seconds["media"]
        return {row["id"]: row["prediction"] for row in directory.predictions()}, dict(seconds)


def eager_copy(plan: Plan, attention: dict[str, str]) -> LoadedModel:
    """The model once more, loaded so that it gives attentions."""
    loaded = loading.load(plan.checkpoint, plan.config.model, plan.dtype, plan.device)
    loaded.model.model.vision_tower.set_attn_implementation(attention["tower"])
    loaded.model.model.language_model.set_attn_implementation(attention["decoder"])
    return loaded


def compare_ways(args: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn."""
    given = [f"ratio={args.ratio}", f"limit={args.limit}", "method=cls", "logger=none", *args.settings]
    plan = make_plan(compose_run(given))
    old = eager_copy(plan, {"tower": "eager", "decoder": "eager" if args.all_attentions else "sdpa"})
    new = loading.load(plan.checkpoint, plan.config.model, plan.dtype, plan.device)
    old_parts, new_parts = Parts(old), Parts(new)
    rounds = []
    for number in range(args.rounds + 1):
        expected, slow = loop(plan, old, old_parts, args.all_attentions)
        found, fast = runner(plan, new, new_parts, args.batch_size)
        different = sum(found[id_] != answer for id_, answer in expected.items())
        if different:
            sys.exit(f"{different} of {len(expected)} answers differ")
        if number:  # the first is a warm-up
            rounds.append((slow, fast))
    return summary(rounds, len(plan.samples))


def summary(rounds: list[tuple[dict[str, float], dict[str, float]]], questions: int) -> dict[str, Any]:
    """Medians over rounds, printed."""
    model = ("vision", "prefill", "decode")
    ratios = [slow["total"] / fast["total"] for slow, fast in rounds]
    model_ratios = [sum(slow[p] for p in model) / sum(fast[p] for p in model) for slow, fast in rounds]
    print(f"\n{questions} questions, the same answers; seconds by part, median of {len(rounds)} rounds\n")
    print(f"{'':8}{'questions/s':>12}" + "".join(f"{part:>10}" for part in ("total", "media", *model, "other")))
    ways: dict[str, dict[str, float]] = {}
    for name, index in (("loop", 0), ("runner", 1)):
        ways[name] = {part: statistics.median(pair[index][part] for pair in rounds) for part in rounds[0][index]}
        cells = "".join(f"{ways[name][part]:>10.3f}" for part in ("total", "media", *model, "other"))
        print(f"{name:8}{questions / ways[name]['total']:>12.1f}{cells}")
    whole, own = statistics.median(ratios), statistics.median(model_ratios)
    print(f"\nrunner {whole:.1f}x the loop; counting the model's time only {own:.1f}x")
    return {"questions": questions, "ways": ways, "ratio": ratios, "model_ratio": model_ratios}


def compare_sweep(args: argparse.Namespace) -> dict[str, Any]:
    """A sweep of METHODS x RATIOS in one process against as many processes of one run."""
    common = [f"limit={args.limit}", "logger=none", "latency_samples=0", "show.samples=0", *args.settings]
    command = [sys.executable, "-m", "vlmprune"]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
        start = time.perf_counter()
        axes = [f"method={','.join(METHODS)}", f"ratio={','.join(map(str, RATIOS))}", "baselines=false"]
        subprocess.run([*command, "sweep", *axes, *common, f"outputs={one}"], check=True, capture_output=True)
        together = time.perf_counter() - start
        start = time.perf_counter()
        for method in METHODS:
            for ratio in RATIOS:
                job = [f"method={method}", f"ratio={ratio}", f"outputs={many}"]
                subprocess.run([*command, "run", *job, *common], check=True, capture_output=True)
        apart = time.perf_counter() - start
        if read_answers(Path(one)) != read_answers(Path(many)):
            sys.exit("answers differ")
    jobs = len(METHODS) * len(RATIOS)
    print(f"\nsweep of {jobs} jobs {together:.1f} s, {jobs} runs apart {apart:.1f} s: {together / apart:.2f}x")
    return {"jobs": jobs, "sweep_s": together, "runs_s": apart, "ratio": together / apart}


def read_answers(outputs: Path) -> dict[str, Any]:
    """The answers part of every result.json by the name of its directory."""
    return {path.parent.name: json.loads(path.read_text())["answers"] for path in outputs.rglob("result.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="settings of vlmprune run, such as model=llava-1.5-7b device=cuda")
    parser.add_argument("--ratio", type=float, default=0.95)
    parser.add_argument("--limit", type=int, default=300, help="questions")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-attentions", action="store_true")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    for option, value in (("--rounds", args.rounds), ("--limit", args.limit), ("--batch-size", args.batch_size)):
        if value < 1:
            raise UserError(f"{option} {value}: allowed: 1 or more")
    given = [setting for setting in args.settings if setting.startswith(("method", "ratio=", "keep=", "limit="))]
    if given:
        raise UserError(f"'{given[0]}': the loop is that of cls; --ratio and --limit say how much of what")
    figures = compare_sweep(args) if args.sweep else compare_ways(args)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"bench_throughput: {error}") from error
