"""Times what methods compute to select or merge tokens against a plain loop over each one's definition (textbook.py).

Both sides get the same random signals of B images; the plain loops take one image after the other. Results are
compared in float64, where rounding decides no near tie, and timed in float32. ToMe and PiToMe run all 23 merges of
CLIP-L/14 in a row, without the encoder layers between them. Prints the least and the median milliseconds of each for
the B images, and the median over rounds of plain / vlmprune. Methods that only rank one score are left out: nothing
is there to be made faster. Ends with an error where the two sides keep different tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import textbook
import torch
from torch import Tensor

from vlmprune.methods.base import Selection, Signals, Tower
from vlmprune.methods.budget import kept_count
from vlmprune.methods.cdpruner import CDPruner, map_dpp
from vlmprune.methods.divprune import DivPrune, max_min_diverse
from vlmprune.methods.pitome import PiToMe
from vlmprune.methods.prumerge import PruMerge, PruMergePlus
from vlmprune.methods.tome import ToMe
from vlmprune.methods.visionzip import VisionZip
from vlmprune.methods.vispruner import VisPruner

HEADS, HEAD_WIDTH, DEPTH = 16, 64, 24  # CLIP-L/14
LAYERED = ("cls_attention", "keys", "queries")  # signals whose second dimension is the image
Contest = tuple[str, bool, Callable[[], Any], Callable[[], Any]]


def random_signals(images: int, n: int, width: int, projected_width: int) -> Signals:
    """Return random float64 signals of `images` images of `n` patches: clusters of tokens, as images have them."""
    generator = torch.Generator().manual_seed(n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def clustered(width: int) -> Tensor:
        return torch.stack([normal(n // 8, width)[row] for row in cluster]) + normal(images, n, width)

    cluster = torch.randint(n // 8, (images, n), generator=generator)
    return Signals(
        grid=(1, n),
        images=images,
        cls_attention=(2 * normal(1, images, HEADS, 1 + n)).softmax(dim=-1)[..., 1:],
        keys=normal(1, images, HEADS, 1 + n, HEAD_WIDTH),
        queries=normal(1, images, HEADS, 1 + n, HEAD_WIDTH),
        features=clustered(width),
        cls_feature=normal(images, width),
        projected=clustered(projected_width),
        text_relevance=normal(images, n) / 10,
    )


def changed(signals: Signals, change: Callable[[str, Tensor], Tensor]) -> Signals:
    """`signals` with every tensor changed."""
    tensors = {f.name: getattr(signals, f.name) for f in fields(signals)}
    return replace(signals, **{name: change(name, x) for name, x in tensors.items() if isinstance(x, Tensor)})


def one_by_one(plain: Callable[[Signals, int], Selection], signals: Signals, k: int) -> Selection:
    """`plain` for every image of `signals` alone."""
    done = []
    for i in range(signals.images):
        image = changed(signals, lambda name, x, i=i: x[:, i : i + 1] if name in LAYERED else x[i : i + 1])
        done.append(plain(replace(image, images=1), k))
    merged = None if done[0].features is None else torch.cat([one.features for one in done])
    return Selection(torch.cat([one.indices for one in done]), merged)


def same(ours: Selection, plain: Selection) -> bool:
    """Return True if the same tokens are kept, and, where they are merged, with the same values."""
    values = ours.features is None or torch.allclose(ours.features, plain.features, rtol=2e-4, atol=2e-4)
    return values and torch.equal(ours.indices, plain.indices)


def merged(method: ToMe, tower: Tower, hidden: Tensor) -> Tensor:
    """hidden [B, 1+N, C] after the merges of all layers."""
    for layer, r in enumerate(method.merge_counts(tower, hidden.shape[1] - 1)):
        hidden = method.match(hidden, r, layer, tower).mean(hidden) if r else hidden
    return hidden


def contests(images: int, n: int, k: int, args: argparse.Namespace) -> Iterator[Contest]:
    """Name, whether both give the same, and what to time: the plain loop, and ours."""
    double = random_signals(images, n, args.width, args.projected_width)
    single = changed(double, lambda name, x: x.float())
    x = torch.nn.functional.normalize(double.projected, dim=2)
    cosine = x @ x.mT
    for name, given, loop, ours in [
        ("divprune, distances given", 1 - cosine, textbook.max_min, max_min_diverse),
        ("cdpruner, kernel given", cosine, textbook.map_dpp, map_dpp),
    ]:
        plain = partial(lambda loop, given: torch.stack([loop(one, k) for one in given]), loop)
        yield (
            name,
            torch.equal(ours(given, k), plain(given)),
            partial(plain, given.float()),
            partial(ours, given.float(), k),
        )

    sequence = {
        "divprune": DivPrune(keep=k),
        "cdpruner": CDPruner(keep=k),
        "vispruner": VisPruner(keep=k),
        "visionzip": VisionZip(keep=k),
        "prumerge": PruMerge(keep=k),
        "prumerge_plus": PruMergePlus(keep=k),
    }
    for name, method in sequence.items():
        plain = partial(one_by_one, getattr(textbook, name))
        equal = same(method.select(double, k), plain(double, k))
        yield name, equal, partial(plain, single, k), partial(method.select, single, k)

    tower = Tower(DEPTH, DEPTH - 2, (1, n), has_cls=True)
    hidden = torch.cat([double.cls_feature.unsqueeze(1), double.features], dim=1)
    for name, method in {"tome": ToMe(keep=k), "pitome": PiToMe(keep=k)}.items():
        plain = partial(getattr(textbook, name), counts=method.merge_counts(tower, n), depth=DEPTH)
        ours = partial(merged, method, tower)
        equal = torch.allclose(ours(hidden), plain(hidden), rtol=2e-4, atol=2e-4)
        yield f"{name}, 23 layers", equal, partial(plain, hidden.float()), partial(ours, hidden.float())


def times(contestants: tuple[Callable[[], Any], ...], repeats: int) -> list[list[float]]:
    """Milliseconds of each, run in turn so that a busy machine is unfair to none; the first round is the warm-up."""
    seen: list[list[float]] = [[] for _ in contestants]
    for _ in range(repeats + 1):
        for contestant, mine in zip(contestants, seen, strict=True):
            start = time.perf_counter()
            contestant()
            mine.append(1000 * (time.perf_counter() - start))
    return [mine[1:] for mine in seen]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python scripts/bench_selection.py --tokens 576 2880 --ratio 0.667 0.9 --images 1 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[576, 2304], help="visual tokens of an image")
    parser.add_argument("--ratio", type=float, nargs="+", default=[0.667, 0.889], help="fraction removed")
    parser.add_argument("--images", type=int, nargs="+", default=[1], help="images in one call (B)")
    parser.add_argument("--width", type=int, default=1024, help="of the projector's input")
    parser.add_argument("--projected-width", type=int, default=4096, help="of the projector's output")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, after one warm-up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} CPU thread(s), {args.repeats} rounds; least and median ms")
    print(f"{'method':<26}{'images':>7}{'tokens':>7}{'kept':>6}{'plain':>16}{'vlmprune':>16}{'ratio':>9}  same")
    failed = False
    for images in args.images:
        for n in args.tokens:
            for ratio in args.ratio:
                k = kept_count(n, ratio)
                for name, equal, *contestants in contests(images, n, k, args):
                    plain, ours = times(tuple(contestants), args.repeats)
                    faster = statistics.median(a / b for a, b in zip(plain, ours, strict=True))
                    shown = "".join(f"{min(one):>8.1f}{statistics.median(one):>8.1f}" for one in (plain, ours))
                    answer = "yes" if equal else "NO"
                    print(f"{name:<26}{images:>7}{n:>7}{k:>6}{shown}{faster:>8.1f}x  {answer}", flush=True)
                    failed |= not equal
    if failed:
        raise SystemExit("a plain loop gives other tokens than vlmprune")


if __name__ == "__main__":
    main()
