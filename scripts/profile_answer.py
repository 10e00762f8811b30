"""Kernels and host calls of one answer of two tokens, from torch.profiler: where the time of a method goes.

    python scripts/profile_answer.py model=llava-next-vicuna-7b model.random_weights=true method=cls ratio=0.95 \\
        compile=true device=cuda

Settings are those of `vlmprune speed`; the answer is that of the first method and the first batch size.
"""

from __future__ import annotations

import sys

from torch.profiler import ProfilerActivity, profile

from vlmprune.cli import speed
from vlmprune.config.arguments import parse
from vlmprune.engine.compiled import CompiledModel
from vlmprune.errors import UserError
from vlmprune.evaluation.latency_pass import time_generate
from vlmprune.speed.bench import QUESTION
from vlmprune.speed.load import make_batch, plan_cases
from vlmprune.speed.rows import load_model

ROWS = 25
NEW_TOKENS = 2  # of the prompt, and of one decode step


def main(settings: list[str]) -> None:
    if "--help" in settings or "-h" in settings:
        print(f"python scripts/profile_answer.py [key=value ...]\n\n{__doc__}")
        return
    request = parse("speed", speed.Settings, settings)
    planned = plan_cases(request.overrides, request.config_dir)
    case = planned.cases[min(1, len(planned.cases) - 1)]
    loaded = load_model(planned)
    prompts = make_batch(loaded, request.speed, planned.batch_sizes[0])
    compiled = CompiledModel(loaded.adapter) if case.compiled else None

    def answer() -> None:
        questions = [QUESTION] * prompts.batch_size
        time_generate(loaded, case.method, prompts.inputs, questions, NEW_TOKENS, None, compiled, eos_token_id=None)

    for _ in range(1 + request.speed.warm_up):
        answer()
    on_gpu = loaded.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    with profile(activities=activities) as seen:
        answer()
    print(f"{case.label}, batch {prompts.batch_size}, on {loaded.device}")
    for order in ["self_cuda_time_total"] * on_gpu + ["self_cpu_time_total"]:
        print(seen.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=60))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"profile_answer: {error}") from error
