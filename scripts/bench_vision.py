"""Cost of [CLS] attention in the vision encoder: time and peak memory of four ways to encode images, random weights.

    plain              the encoder as LLaVA runs it, with SDPA; no attention is read
    to layer L         the same, ended at the layer that LLaVA reads (23 of 24): what a fair plain encoder would do
    cls                vlmprune.prune(model, "cls"): the same layers, and the [CLS] row of the last of them; pruned
    output_attentions  eager attention and output_attentions=True, as published code reads that row; pruned

All are calls of `get_image_features` of one LLaVA (CLIP-L/14 and a tiny decoder, which does not run), so that cls is
the engine's own code, selection included. They run in turn in one process: the least and the median milliseconds, and
the median over rounds of time / plain's time in that round. Peak memory is measured in a fresh process for each, over
what is in use before the call (weights, input, libraries): of the process on a CPU, of torch's allocator on a GPU.
Ends with an error where cls keeps other tokens than output_attentions would, or changes those that it keeps.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vlmprune import prune
from vlmprune.methods.base import top_k


def make_llava(args: argparse.Namespace) -> Any:
    """A LLaVA with CLIP-L/14 and a decoder of one tiny layer."""
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "projection_dim": 768}
    vision = CLIPVisionConfig(**large, num_hidden_layers=args.layers, image_size=args.image_size, patch_size=14)
    text = LlamaConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, vocab_size=99)
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=98)
    model: Any = LlavaForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    return model.to(args.device, getattr(torch, args.dtype)).eval()


class Ways:
    """The four ways on one model. Every way takes pixels [B, 3, S, S] to visual embeddings [B, N or k, D]."""

    def __init__(self, model: Any, args: argparse.Namespace) -> None:
        self.model, self.ratio, self.read = model, args.ratio, args.layers - 2  # hidden_states[-2], as LLaVA reads
        self.names = ("plain", f"to layer {self.read + 1}", "cls", "output_attentions")

    @contextmanager
    def ready(self, name: str) -> Iterator[Any]:
        """Prepares the model for one way and gives its function; preparing is no part of what is measured."""
        tower = self.model.model.vision_tower
        if name == "plain":
            yield self.encode
        elif name == "cls":
            with prune(self.model, "cls", ratio=self.ratio):
                yield self.encode
        elif name == "output_attentions":
            tower.set_attn_implementation("eager")
            try:
                yield self.by_output_attentions
            finally:
                tower.set_attn_implementation("sdpa")
        else:
            # transformers 5.17 keeps the transformer one module deeper than 5.23.
            last = getattr(tower, "vision_model", tower).encoder.layers[-1]
            last.forward = lambda hidden_states, *args, **kwargs: hidden_states
            try:
                yield self.encode
            finally:
                del last.forward

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.stack(tuple(self.model.get_image_features(pixels).pooler_output))

    def by_output_attentions(self, pixels: Tensor) -> Tensor:
        """The road of the reference repositories: all maps, all layers, then the top k of one row of one layer."""
        base = self.model.model
        seen = base.vision_tower(pixels, output_attentions=True, output_hidden_states=True)
        features = seen.hidden_states[self.read + 1][:, 1:]
        score = seen.attentions[self.read][:, :, 0, 1:].mean(dim=1)
        kept = top_k(score, round(score.shape[1] * (1 - self.ratio)))
        return base.multi_modal_projector(features.gather(1, kept.unsqueeze(2).expand(-1, -1, features.shape[2])))

    def check(self, pixels: Tensor) -> str:
        """Compare what comes out, which is the warm-up too. Raises SystemExit where cls is not exact."""
        out = {}
        for name in self.names:
            with self.ready(name) as encode:
                out[name] = encode(pixels)
        plain, fair, cls, reference = (out[name] for name in self.names)
        kept = ~cls[..., 0].isnan()  # dropped slots are marked, for the language model's hook to leave out
        differences = [plain - fair, plain[kept] - cls[kept], cls[kept].view_as(reference) - reference]
        worst = [difference.abs().max().item() for difference in differences]
        if worst[0] > 0 or max(worst) > (1e-5 if pixels.dtype == torch.float32 else 2e-2):
            raise SystemExit(f"the ways differ by {worst}")
        return f"equal tokens kept, their embeddings equal to {max(worst):.0e}"


def images(batch: int, args: argparse.Namespace) -> Tensor:
    """Random pixels [batch, 3, S, S]."""
    generator = torch.Generator().manual_seed(batch)
    pixels = torch.randn(batch, 3, args.image_size, args.image_size, generator=generator)
    return pixels.to(args.device, getattr(torch, args.dtype))


def milliseconds(encode: Any, pixels: Tensor) -> float:
    """Time of one call."""
    start = time.perf_counter()
    encode(pixels)
    if pixels.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def peak_over_weights(name: str, batch: int, args: argparse.Namespace) -> float:
    """MiB that one call needs beyond what is in use before it. Meant for a fresh process."""
    ways, pixels = Ways(make_llava(args), args), images(batch, args)
    with ways.ready(name) as encode:
        if args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            encode(pixels)
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is resident now
        before = resident("VmRSS")
        encode(pixels)
        return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """A line of /proc/self/status in kB: VmRSS, resident now, or VmHWM, its peak."""
    return int(re.findall(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def peak_in_a_fresh_process(name: str, batch: int) -> float:
    """`peak_over_weights` of this command line in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", name, "--batch", str(batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example, seconds: python scripts/bench_vision.py --layers 3 --batch 1 --image-size 112 --repeats 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=24, help="encoder layers, 2 or more")
    parser.add_argument("--image-size", type=int, default=336, help="pixels; N = (size / 14)^2 patches")
    parser.add_argument("--ratio", type=float, default=0.9, help="fraction of visual tokens removed")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="images in one call")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds, after one warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # the fresh processes' own job
    args = parser.parse_args()
    if args.layers < 2:
        parser.error(f"--layers {args.layers}: allowed: 2 or more")
    return args


@torch.inference_mode()
def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    if args.peak_of is not None:
        print(peak_over_weights(args.peak_of, args.batch[0], args))
        return
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {device}, {args.dtype}")
    print(f"CLIP-L/14-{args.image_size} of {args.layers} layers, random, ratio {args.ratio}, {args.repeats} rounds")
    ways = Ways(make_llava(args), args)
    for batch in args.batch:
        pixels = images(batch, args)
        print(f"batch {batch}: {ways.check(pixels)}")
        print(f"{'way':<18}{'least ms':>10}{'median ms':>11}{'of plain':>10}{'peak MiB':>10}")
        rounds: list[dict[str, float]] = [{} for _ in range(args.repeats)]
        for times, name in itertools.product(rounds, ways.names):
            with ways.ready(name) as encode:
                times[name] = milliseconds(encode, pixels)
        for name in ways.names:
            mine = [times[name] for times in rounds]
            ratio = statistics.median(times[name] / times["plain"] for times in rounds)
            peak = peak_in_a_fresh_process(name, batch)
            shown = f"{min(mine):>10.1f}{statistics.median(mine):>11.1f}{ratio:>9.3f}x{peak:>10.1f}"
            print(f"{name:<18}{shown}", flush=True)


if __name__ == "__main__":
    main()
