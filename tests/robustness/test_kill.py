"""kill -9 at any moment, restarted until done: as if nothing had happened."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.robustness.left import left, progress, stage
from tests.robustness.victims import Victims

pytestmark = pytest.mark.slow

KILLS = 50
STAGES = ("starting", "answering", "finishing a run")
FEWEST = 2  # kills of each server in each stage, or the moments were not spread over a life
MOST = 200  # kills, where the moments are badly spread
SLOWER = 1.05  # what a process that had done nothing when it was killed says of the machine


@dataclass(frozen=True)
class Case:
    """A command of `runs` runs with `questions` questions each."""

    arguments: tuple[str, ...]
    runs: int
    questions: int


COMMON = ("ratio=0.9", "method=cls", "batch_size=2", "latency_samples=1", "show.samples=1", "logger=none")
CASES = {
    "run": Case(("run", *COMMON, "limit=16"), 1, 16),
    "sweep": Case(("sweep", *COMMON, "limit=6"), 3, 6),  # the unpruned run and random pruning are added
}


def enough(tally: Counter[str], servers: int) -> bool:
    """True once one of the servers has done its share of the kills."""
    spread = all(tally[part] >= FEWEST for part in STAGES)
    return tally.total() >= (KILLS if spread else MOST) / servers


def kill_often(victims: Victims, root: Path, case: Case, life: float, seed: int, servers: int) -> Counter[str]:
    """Restart the command after every kill until it is done, in one new folder after the other; counts by stage.

    life: seconds of a process that is left alone, over which the moments of the kills are spread. It is corrected on
    the way: on a machine that has become slower, all would fall into the start.
    """
    moments, tally, folders, longest = random.Random(seed), Counter[str](), 0, life
    while not enough(tally, servers):
        folder, folders = root / str(folders), folders + 1
        done = False
        while not done:
            before = progress(folder, case.questions)
            calm = enough(tally, servers) or before.finished == case.runs  # which would only be shown again
            moment = None if calm else moments.uniform(0, longest)
            ended = victims.end(victims.start(folder, *case.arguments), moment)
            done = not ended.killed
            if done:
                assert ended.code == 0, ended.errors
                longest = max(life, ended.seconds)
            else:
                part = stage(before, progress(folder, case.questions), case.runs)
                tally[part] += 1
                longest *= SLOWER if part == "starting" else 1
    return tally


@pytest.mark.parametrize("name", CASES)
def test_kill_9_at_random_moments(name, victims, tmp_path):
    case = CASES[name]
    for server in victims:
        calm = server.run(tmp_path / "calm", *case.arguments)
        assert calm.code == 0, calm.errors
    expected = left(tmp_path / "calm")
    assert len(expected) == case.runs

    with ThreadPoolExecutor(len(victims)) as threads:
        timed = [
            threads.submit(server.run, tmp_path / f"timed{seed}", *case.arguments)
            for seed, server in enumerate(victims)
        ]
        life = max(future.result().seconds for future in timed)
        futures = [
            threads.submit(kill_often, server, tmp_path / f"killed{seed}", case, life, seed, len(victims))
            for seed, server in enumerate(victims)
        ]
        tally = sum((future.result() for future in futures), Counter[str]())
    folders = [folder for root in tmp_path.glob("killed*") for folder in root.iterdir()]
    told = f"{tally.total()} kills over {len(folders)} times done: {dict(tally)}"
    print(told)
    assert tally.total() >= KILLS and all(tally[part] for part in STAGES), told
    wrong = [str(folder) for folder in folders if left(folder) != expected]
    assert not wrong, f"{len(wrong)} of {len(folders)} differ from an undisturbed {name}, after {told}: {wrong}"


def test_dying_at_every_single_write(victims, tmp_path):
    arguments = ("run", *COMMON, "limit=4")
    writes = victims[0].warm_up(tmp_path / "calm", *arguments)
    expected = left(tmp_path / "calm")

    def die_at(server: Victims, numbers: list[int]) -> int:
        for number in numbers:
            folder = tmp_path / f"{number}"
            assert server.end(server.start(folder, *arguments, die_at=number)).killed, (
                f"did not die at {writes[number]}"
            )
            ended = server.run(folder, *arguments)
            assert ended.code == 0, f"after dying at write {number}, {writes[number]}: {ended.errors}"
            assert left(folder) == expected, f"another outcome after dying at write {number}, {writes[number]}"
        return len(numbers)

    with ThreadPoolExecutor(len(victims)) as threads:
        halves = [list(range(start, len(writes), len(victims))) for start in range(len(victims))]
        died = sum(threads.map(die_at, victims, halves))
    assert died == len(writes), f"died at {died} of {len(writes)} writes: {writes}"
    files = {write.split(" ")[1] for write in writes}
    assert files >= {"config.yaml", "environment.json", "kept.jsonl", "predictions.jsonl", "result.json"}, files
