"""Times the attention rows that signals are made of, beside the prefill that they belong to.

Compares rows in float32 (vlmprune's) with the same rows in the model's dtype (eager attention's arithmetic), on random
queries and keys as transformers lays them out: for a decoder layer the last prompt token's row, for CLIP-L the [CLS]
row of each tile and the mean attention that each patch receives. Prints the least milliseconds of each, the largest
memory that each holds at a time, and what share the float32 rows are of a prefill: the time of one decoder layer on
such a prompt, taken once, times the depth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from vlmprune.engine.hooks import attention_rows
from vlmprune.engine.signals import received_attention

CLIP_HEADS, CLIP_HEAD_WIDTH, CLIP_TOKENS = 16, 64, 577


def rows_in_model_dtype(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Post-softmax rows as attention_rows gives them, multiplied in the dtype of query and key."""
    batch, heads, rows, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * rows, width)
    logits = (grouped @ key.mT).view(batch, heads, rows, -1) * scaling
    return logits.softmax(dim=-1, dtype=torch.float32)


def received_in_model_dtype(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """The mean over 512 query rows at a time of such rows."""
    total = torch.zeros(*query.shape[:2], key.shape[2])
    for part in query.split(512, dim=2):
        total += rows_in_model_dtype(part, key, scaling).sum(dim=2)
    return total / query.shape[2]


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The least of `repeats` runs after a first one."""
    best = float("inf")
    for run in range(repeats + 1):
        start = time.perf_counter()
        work()
        if run or not repeats:
            best = min(best, 1000 * (time.perf_counter() - start))
    return best


def peak_mb(work: Callable[[], object]) -> float:
    """The most that `work` holds at a time beside its inputs, in MB."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def laid_out(batch: int, tokens: int, heads: int, width: int, dtype: torch.dtype) -> Tensor:
    """[B, H, L, d] in the order of memory that a projection leaves."""
    return torch.randn(batch, tokens, heads, width).transpose(1, 2).to(dtype)


def layer_milliseconds(args: argparse.Namespace, tokens: int, dtype: torch.dtype) -> float:
    """One forward pass of a decoder layer on a prompt of `tokens`."""
    config = LlamaConfig(
        hidden_size=args.width,
        intermediate_size=int(args.width * 2.6875),
        num_attention_heads=args.heads,
        num_key_value_heads=args.key_heads,
        max_position_embeddings=8192,
    )
    config._attn_implementation = "sdpa"
    layer = LlamaDecoderLayer(config, 0).to(dtype).eval()
    hidden, positions = torch.randn(1, tokens, args.width).to(dtype), torch.arange(tokens)[None]
    rotary = LlamaRotaryEmbedding(config)(hidden, positions)
    forward = partial(layer, hidden, position_ids=positions, position_embeddings=rotary)
    return milliseconds(forward, args.layer_repeats)


def show(name: str, before: Callable[[], Tensor], after: Callable[[], Tensor], args: argparse.Namespace) -> float:
    """Print one line without its end; returns milliseconds of the float32 rows."""
    times = [milliseconds(work, args.repeats) for work in (before, after)]
    peaks = [peak_mb(work) for work in (before, after)]
    numbers = f"{times[0]:>10.2f}{times[1]:>10.2f}{peaks[0]:>10.1f}{peaks[1]:>10.1f}"
    print(f"{name:<44}{numbers}", end="", flush=True)
    return times[1]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python scripts/bench_probe.py --tokens 640 2880 --dtype bfloat16",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[640, 2880], help="positions of a prompt")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"], help="of the model")
    parser.add_argument("--width", type=int, default=4096, help="of the decoder")
    parser.add_argument("--heads", type=int, default=32, help="query heads of the decoder")
    parser.add_argument("--key-heads", type=int, default=32, help="key heads of the decoder")
    parser.add_argument("--depth", type=int, default=32, help="decoder layers of a prefill")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 5], help="tiles of 577 tokens in one CLIP call")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of the rows, after one warm-up")
    parser.add_argument("--layer-repeats", type=int, default=0, help="the same of the layer; 0 times the first run")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, {args.threads} CPU threads, {args.repeats} runs; in the model's dtype, in float32"
    )
    print(f"{'rows':<44}{'ms':>10}{'ms':>10}{'MB':>10}{'MB':>10}   share of a prefill")
    width = args.width // args.heads
    for dtype in (getattr(torch, name) for name in args.dtype):
        kind = str(dtype).removeprefix("torch.")
        for tokens in args.tokens:
            query = laid_out(1, tokens, args.heads, width, dtype)[:, :, -1:]
            key = laid_out(1, tokens, args.key_heads, width, dtype)
            scaling = width**-0.5
            spent = show(
                f"last of {tokens}, decoder, {kind}",
                partial(rows_in_model_dtype, query, key, scaling),
                partial(attention_rows, query, key, None, scaling),
                args,
            )
            prefill = args.depth * layer_milliseconds(args, tokens, dtype)
            print(f"   {spent / prefill:.3%} of {prefill / 1000:.1f} s", flush=True)
        for tiles in args.tiles:
            query, key = (laid_out(tiles, CLIP_TOKENS, CLIP_HEADS, CLIP_HEAD_WIDTH, dtype) for _ in range(2))
            scaling = CLIP_HEAD_WIDTH**-0.5
            show(
                f"[CLS] of {tiles} x {CLIP_TOKENS}, CLIP-L, {kind}",
                partial(rows_in_model_dtype, query[:, :, :1], key, scaling),
                partial(attention_rows, query[:, :, :1], key, None, scaling),
                args,
            )
            print()
            show(
                f"received, {tiles} x {CLIP_TOKENS}, CLIP-L, {kind}",
                partial(received_in_model_dtype, query, key, scaling),
                partial(received_attention, query, key, None, scaling),
                args,
            )
            print()


if __name__ == "__main__":
    main()
