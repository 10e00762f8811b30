"""Count how every hostile input ends, by kind: `python -m tests.robustness.hostile [KIND ...] [-v]`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}

from tests.robustness.hostile.table import LONGEST_SECONDS, hostile_inputs, verdict
from tests.robustness.victims import Victims


def main(words: list[str]) -> None:
    """Print one line per kind, and with -v one for each input that does not end as it must."""
    kinds = [word for word in words if word != "-v"]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    server = Victims()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as top:
        server.warm_up(Path(top) / "warm", "run", "keep=14", "limit=2", "logger=none")
        for number, case in enumerate(hostile_inputs()):
            if kinds and case.kind not in kinds:
                continue
            folder = Path(top) / str(number)
            folder.mkdir()
            case.prepare(folder)
            ended = server.command(folder, case.arguments, case.environment, LONGEST_SECONDS)
            how = verdict(case, ended.code, ended.output, ended.errors)
            if how and "-v" in words:
                last = (ended.errors.strip().splitlines() or [""])[-1]
                print(f"{case.id}: {how}, {ended.seconds:.1f} s: {last[:300]}", flush=True)
            counts[case.kind][how if how in ("", "hang", "traceback") else "another end"] += 1
    server.close()
    print(f"{'kind':<20}{'inputs':>8}{'one line':>10}{'traceback':>11}{'hang':>6}{'another end':>13}")
    for kind, ends in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        figures = (sum(ends.values()), ends[""], ends["traceback"], ends["hang"], ends["another end"])
        print(f"{kind:<20}{figures[0]:>8}{figures[1]:>10}{figures[2]:>11}{figures[3]:>6}{figures[4]:>13}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
