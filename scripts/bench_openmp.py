"""Questions per second of `vlmprune run` on a CPU under settings of OpenMP, alone and beside busy processes.

torch's wheels for Linux bring GCC's library, libgomp, whose threads spin for a while when they have no work, unless
told otherwise. On a CPU that others use too, the spinning takes the time of the threads that are awaited.

    default                  the library's own rule, 300,000 spins; torch is imported before vlmprune could change it
    OMP_NUM_THREADS=1        no other threads, and nothing to wait for
    OMP_WAIT_POLICY=PASSIVE  all threads, which sleep as soon as they wait
    GOMP_SPINCOUNT=1000      all threads, which spin 1,000 times before they sleep: what vlmprune sets

Each is a process of its own, `vlmprune run method=cls ratio=0.95` into a new folder. The settings take turns, so that a
load that comes and goes meets them all. Printed: the median questions/s of the batched evaluation and of the median
prefill at batch 1, both as a ratio to `default` under the same load, and as measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlmprune.machine import OPENMP, SPINS

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    f"GOMP_SPINCOUNT={SPINS}": {"GOMP_SPINCOUNT": str(SPINS)},
}
RUN = "import sys, torch; from vlmprune.cli import main; sys.exit(main(sys.argv[1:]))"
QUICK = ("method=cls", "ratio=0.95", "device=cpu", "logger=none", "show.samples=0")


def measure(setting: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Questions per second, and the median prefill in ms, of one run under a setting."""
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP} | SETTINGS[setting]
    with tempfile.TemporaryDirectory() as outputs:
        given = [*QUICK, f"limit={arguments.limit}", f"latency_samples={arguments.timed}", f"outputs={outputs}"]
        command = [sys.executable, "-c", RUN, "run", *given]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (file,) = Path(outputs).rglob("result.json")
        timings = json.loads(file.read_text())["timings"]
    return timings["samples_per_s"], timings["latency"]["pruned"]["prefill"]["median_ms"]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes computing inside the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100, help="questions of a run")
    parser.add_argument("--timed", type=int, default=8, help="questions timed at batch 1")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each setting and load")
    parser.add_argument(
        "--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="other processes that compute meanwhile"
    )
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    print(f"{'busy':<6}{'setting':<26}{'questions/s':>13}{'':>8}{'prefill ms':>12}")
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        for busy in arguments.busy:
            with busy_processes(busy):
                for setting in SETTINGS:
                    one = measure(setting, arguments)
                    print(f"{busy} busy, {setting}: {one[0]:.1f} questions/s, {one[1]:.1f} ms", file=sys.stderr)
                    found.setdefault((busy, setting), []).append(one)
    for (busy, setting), runs in found.items():
        rate, prefill = (statistics.median(values) for values in zip(*runs, strict=True))
        own_rate, own_prefill = (statistics.median(values) for values in zip(*found[busy, "default"], strict=True))
        faster, shorter = f"{rate / own_rate:.2f}x", f"{own_prefill / prefill:.2f}x"
        print(f"{busy:<6}{setting:<26}{rate:>13.1f}{faster:>8}{prefill:>12.1f}{shorter:>8}")


if __name__ == "__main__":
    main()
