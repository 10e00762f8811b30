"""What a [CLS] attention row costs in the vision encoder: time and peak memory of three ways, on random weights.

    plain      the tower as it is loaded, with SDPA; no attention is read
    probe      the same, and vlmprune's probe reads the [CLS] row of the layer that LLaVA reads
    eager      attn_implementation="eager" and output_attentions=True, as most published code reads that row

All three run every layer and record no hidden states, so that attention is the only difference. (Under `prune` the
layers above the feature layer are skipped besides.) They are timed in turn in one process on the same weights: median
milliseconds, and the median over rounds of time / plain's time in that round. Peak memory is measured in a fresh
process for each, over what is in use before the forward pass (weights, input, libraries): of the process on a CPU,
of torch's allocator on a GPU. Ends with an error if the probe's row is not eager's or changes the tower's output.
"""

from __future__ import annotations

import argparse
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
from transformers import CLIPVisionConfig, CLIPVisionModel

from vlmprune.pruning.probe import Probe, attention_rows

WAYS = ("plain", "probe", "eager")


class Tower:
    """One way to run CLIP-L/14. A call returns (last hidden state [B, 1+N, C], [CLS] row [B, H, 1+N] or None)."""

    def __init__(self, way: str, args: argparse.Namespace) -> None:
        self.way, self.read = way, args.layers - 2  # hidden_states[-2], as LLaVA reads
        config = CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=args.layers,
            num_attention_heads=16,
            image_size=args.image_size,
            patch_size=14,
            projection_dim=768,
        )
        torch.manual_seed(0)
        attention = "eager" if way == "eager" else "sdpa"
        model: Any = CLIPVisionModel._from_config(config, attn_implementation=attention)
        self.model = model.to(args.device, getattr(torch, args.dtype)).eval()

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.way == "eager":
            out = self.model(pixels, output_attentions=True)
            return out.last_hidden_state, out.attentions[self.read][:, :, 0]
        if self.way == "plain":
            return self.model(pixels).last_hidden_state, None
        with self._probed() as rows:
            hidden = self.model(pixels).last_hidden_state
        return hidden, rows[0]

    @contextmanager
    def _probed(self) -> Iterator[list[Tensor]]:
        rows: list[Tensor] = []

        def observe(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
            rows.append(attention_rows(query[:, :, :1], key, mask, scaling)[:, :, 0])

        # transformers 5.17 keeps the transformer one module deeper than 5.23.
        body = getattr(self.model, "vision_model", self.model)
        probe = Probe(body.encoder.layers[self.read].self_attn, observe)
        try:
            yield rows
        finally:
            probe.remove()


def images(batch: int, args: argparse.Namespace) -> Tensor:
    """Random pixels [batch, 3, S, S]."""
    generator = torch.Generator().manual_seed(batch)
    pixels = torch.randn(batch, 3, args.image_size, args.image_size, generator=generator)
    return pixels.to(args.device, getattr(torch, args.dtype))


def milliseconds(tower: Tower, pixels: Tensor) -> float:
    """Time of one forward pass."""
    start = time.perf_counter()
    tower(pixels)
    if pixels.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def check(towers: dict[str, Tower], pixels: Tensor) -> str:
    """Compare the three; raises SystemExit where the probe is not exact."""
    (plain, _), (probed, row), (_, expected) = (towers[way](pixels) for way in WAYS)
    assert row is not None and expected is not None
    difference = (row - expected).abs().max().item()
    if not torch.equal(plain, probed):
        raise SystemExit("the probe changes the tower's output")
    if difference > (1e-5 if pixels.dtype == torch.float32 else 1e-2):
        raise SystemExit(f"the probe's [CLS] row is not eager's: they differ by {difference:.1e}")
    return f"output unchanged by the probe, [CLS] row equals eager's to {difference:.1e}"


def peak_over_weights(way: str, batch: int, args: argparse.Namespace) -> float:
    """MB that one forward pass needs beyond what is in use before it. Meant for a fresh process."""
    tower, pixels = Tower(way, args), images(batch, args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        tower(pixels)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is resident now
    before = resident("VmRSS")
    tower(pixels)
    return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """A line of /proc/self/status in kB: VmRSS, resident now, or VmHWM, its peak."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def peak_in_a_fresh_process(way: str, batch: int) -> float:
    """`peak_over_weights` of this command line in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", way, "--batch", str(batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example, seconds: python scripts/bench_vision.py --layers 3 --batch 1 --image-size 112 --repeats 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=24, help="encoder layers, 2 or more")
    parser.add_argument("--image-size", type=int, default=336, help="pixels; N = (size / 14)^2 patches")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="images in one forward pass")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds, after one warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--peak-of", choices=WAYS, help=argparse.SUPPRESS)  # the fresh processes' own job
    args = parser.parse_args()
    if args.layers < 2:
        parser.error(f"--layers {args.layers}: allowed: 2 or more")

    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        if args.peak_of is not None:
            print(peak_over_weights(args.peak_of, args.batch[0], args))
            return
        device = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, {device}, {args.dtype}")
        print(f"CLIP-L/14-{args.image_size}, {args.layers} layers, random weights, median of {args.repeats} rounds")
        towers = {way: Tower(way, args) for way in WAYS}
        for way in WAYS[1:]:  # one copy of the weights: the seed made them equal
            towers[way].model.load_state_dict(towers["plain"].model.state_dict(), assign=True)
        print(f"{'way':<8}{'batch':>6}{'ms':>10}{'of plain':>10}{'peak MB':>10}")
        for batch in args.batch:
            pixels = images(batch, args)
            note = check(towers, pixels)  # and warm-up
            rounds = [{way: milliseconds(towers[way], pixels) for way in WAYS} for _ in range(args.repeats)]
            for way in WAYS:
                median = statistics.median(times[way] for times in rounds)
                ratio = statistics.median(times[way] / times["plain"] for times in rounds)
                peak = peak_in_a_fresh_process(way, batch)
                print(f"{way:<8}{batch:>6}{median:>10.1f}{ratio:>9.2f}x{peak:>10.1f}", flush=True)
            print(f"batch {batch}: {note}")


if __name__ == "__main__":
    main()
