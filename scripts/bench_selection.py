"""Times the selection of DivPrune, PruMerge and VisPruner against a plain loop over their definitions.

The opponents are textbook forms, written here from the definitions: DivPrune takes the minimum over all
selected tokens anew in each step, PruMerge merges token by token, VisPruner multiplies the features anew in
each round. Both sides get the same random signals. Results are compared in float64, where rounding decides no
near tie, and timed in float32. Prints the median of each, in milliseconds for one image, and their ratio.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from vlmprune.methods.base import Selection, Signals
from vlmprune.methods.counting import kept_count
from vlmprune.methods.divprune import DivPrune, max_min_diverse
from vlmprune.methods.prumerge import PruMerge
from vlmprune.methods.vispruner import VisPruner

HEADS, HEAD_WIDTH = 16, 64  # CLIP-L/14
Contestant = Callable[[], object]


def divprune_loop(signals: Signals, k: int) -> Selection:
    """Max-min diversity of one image, O(k^2 N)."""
    x = torch.nn.functional.normalize(signals.projected[0], dim=1)
    return Selection(max_min_loop(1 - x @ x.T, k).sort().values[None])


def max_min_loop(distance: Tensor, k: int) -> Tensor:
    """The greedy part alone: `k` of N by distance [N, N]."""
    selected = [int(distance.sort(dim=0).values[1].argmax())]  # the smallest distance is that to itself
    while len(selected) < k:
        gain = distance[selected].amin(dim=0)
        gain[selected] = -1
        selected.append(int(gain.argmax()))
    return torch.tensor(selected)


def prumerge_loop(signals: Signals, k: int) -> Selection:
    """The k - 1 most attended tokens of one image, each merged with its neighbours in turn, and the extra."""
    keys, features = signals.keys[-1, 0].transpose(0, 1).flatten(1), signals.features[0]
    query = signals.queries[-1, 0, :, 0].flatten()
    attention = (keys @ query / math.sqrt(len(query))).softmax(dim=0)[1:]
    keys = torch.nn.functional.normalize(keys[1:], dim=1)
    order = attention.argsort(descending=True, stable=True)
    merged = []
    for token in order[: k - 1].tolist():
        others = torch.cat([torch.arange(token), torch.arange(token + 1, len(keys))])
        nearest = others[(keys[others] @ keys[token]).topk(32).indices]
        merged.append(features[token] + (attention[nearest, None] * features[nearest]).sum(dim=0))
    rest = order[k - 1 :]
    merged.append((attention[rest, None] * features[rest]).sum(dim=0))
    return Selection(order[None, :k], torch.stack(merged)[None])


def vispruner_loop(signals: Signals, k: int) -> Selection:
    """Half of k by attention, half by dropping duplicates, with features multiplied in every round."""
    order = signals.cls_attention[-1, 0].mean(dim=0).argsort(descending=True, stable=True)
    important, rest = order[: k // 2], order[k // 2 :]
    while len(rest) > k - k // 2:
        x = torch.nn.functional.normalize(signals.features[0, rest], dim=1)
        duplication = (x[0::2] @ x[1::2].T).amax(dim=1)
        dropped = min(8, len(rest) - (k - k // 2), len(duplication))
        ranked = duplication.argsort(descending=True, stable=True)
        rest = torch.cat([rest[0::2][ranked[dropped:]], rest[1::2]])
    return Selection(torch.cat([important, rest]).sort().values[None])


def random_signals(n: int, width: int, projected_width: int) -> Signals:
    """What one image of `n` patches gives, in float64: clusters of similar tokens, as images have them."""
    generator = torch.Generator().manual_seed(n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    cluster = torch.randint(n // 8, (n,), generator=generator)
    return Signals(
        grid=(1, n),
        cls_attention=(2 * normal(1, 1, HEADS, 1 + n)).softmax(dim=-1)[..., 1:],
        keys=normal(1, 1, HEADS, 1 + n, HEAD_WIDTH),
        queries=normal(1, 1, HEADS, 1 + n, HEAD_WIDTH),
        features=(normal(n // 8, width)[cluster] + normal(n, width))[None],
        projected=(normal(n // 8, projected_width)[cluster] + normal(n, projected_width))[None],
    )


def in_float32(signals: Signals) -> Signals:
    """The same signals, rounded."""
    tensors = {name: value.float() for name, value in vars(signals).items() if isinstance(value, Tensor)}
    return Signals(grid=signals.grid, **tensors)


def median_times(contestants: list[Contestant], repeats: int) -> list[float]:
    """Median milliseconds of each, run in turn so that a busy machine is unfair to none."""
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(repeats + 1):
        for contestant, seen in zip(contestants, times, strict=True):
            start = time.perf_counter()
            contestant()
            seen.append(1000 * (time.perf_counter() - start))
    return [statistics.median(seen[1:]) for seen in times]  # the first is the warm-up


def same(ours: Selection, plain: Selection) -> bool:
    """Whether the same tokens are kept, and, where they are merged, with the same values."""
    values = ours.features is None or torch.allclose(ours.features, plain.features, rtol=2e-4, atol=2e-4)
    return values and torch.equal(ours.indices, plain.indices)


def contests(n: int, k: int, args: argparse.Namespace) -> Iterator[tuple[str, bool, list[Contestant]]]:
    """Name, whether both keep the same, and the two to time, plain loop first."""
    double = random_signals(n, args.width, args.projected_width)
    single = in_float32(double)
    x = torch.nn.functional.normalize(double.projected, dim=2)
    distance = 1 - x @ x.mT
    equal = torch.equal(max_min_diverse(distance, k)[0], max_min_loop(distance[0], k))
    given = distance.float()
    greedy = [partial(max_min_loop, given[0], k), partial(max_min_diverse, given, k)]
    yield "divprune, distances given", equal, greedy
    for method, plain in [
        (DivPrune(keep=k), divprune_loop),
        (PruMerge(keep=k), prumerge_loop),
        (VisPruner(keep=k), vispruner_loop),
    ]:
        equal = same(method.select(double, k), plain(double, k))
        name = type(method).__name__.lower()
        yield name, equal, [partial(plain, single, k), partial(method.select, single, k)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python scripts/bench_selection.py --tokens 576 2880 --ratio 0.667 0.9",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[576, 2304], help="visual tokens")
    parser.add_argument("--ratio", type=float, nargs="+", default=[0.667, 0.889], help="fraction removed")
    parser.add_argument("--width", type=int, default=1024, help="of the projector's input")
    parser.add_argument("--projected-width", type=int, default=4096, help="of the projector's output")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, after one warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} CPU thread(s), median of {args.repeats}, one image")
    print(f"{'method':<26}{'tokens':>7}{'kept':>6}{'plain ms':>10}{'vlmprune ms':>13}{'ratio':>8}  same")
    failed = False
    for n in args.tokens:
        for ratio in args.ratio:
            k = kept_count(n, ratio)
            for name, equal, contestants in contests(n, k, args):
                plain, ours = median_times(contestants, args.repeats)
                row = f"{name:<26}{n:>7}{k:>6}{plain:>10.1f}{ours:>13.1f}{plain / ours:>7.1f}x"
                print(row, " yes" if equal else " NO", flush=True)
                failed |= not equal
    if failed:
        raise SystemExit("a plain loop keeps other tokens than vlmprune")


if __name__ == "__main__":
    main()
