"""The other processes of a run as process 0 sees them, and the questions that each answers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import torch

from vlmprune.benchmarks.base import Sample
from vlmprune.distributed.worker import JOB, REPORT, Job, Report
from vlmprune.errors import ProcessLost, UserError, describe_exit
from vlmprune.evaluation.batching import group_by_image, windows
from vlmprune.evaluation.plan import Plan
from vlmprune.evaluation.run_directory import RunDirectory, is_held
from vlmprune.files import to_json
from vlmprune.results.runs import count_lines
from vlmprune.typed_json import read_json


def split_questions(samples: list[Sample], processes: int, batch_size: int, same_batches: bool) -> list[list[Sample]]:
    """Split `samples` into `processes` shares that differ by at most one image's, or one window's, questions.

    In float32 an answer does not depend on the other questions of its batch, and the questions of an image stay in one
    share, so that its encoding and the shared prefix of its prompts are computed once. In half precision (same_batches)
    the composition of a batch changes the rounding. The windows that a single process would form (batching.py) then
    stay whole, and every batch holds the same questions as with one process.
    """
    if same_batches:
        units = [window for window, _ in windows(group_by_image(samples), batch_size)]
    else:
        units = [list(group) for _, group in groupby(group_by_image(samples), key=lambda sample: sample.image_id)]
    shares: list[list[Sample]] = [[] for _ in range(processes)]
    for unit in units:
        min(shares, key=len).extend(unit)
    return shares


POLL_SECONDS = 0.5
BEGIN_SECONDS = 300.0  # for a launcher's process, which only has to find its folder


class Team:
    """All processes of a run. One team serves several runs in turn; an error in a run ends its `children`.

    begin: called with a run directory that has a folder for each process but this one. children: these processes, if
    this one started them. threads: CPU threads of each; None leaves the number of this process unchanged.
    """

    def __init__(
        self,
        size: int,
        begin: Callable[[Path], object] = lambda _: None,
        children: Sequence[subprocess.Popen[str]] = (),
        threads: int | None = None,
    ) -> None:
        self.size, self.begin, self.children, self.threads = size, begin, children, threads
        self.closed = False
        self.reports: dict[int, Report] = {}  # of the other processes that ended their shares of the last run, by rank
        self._shares: dict[int, RunDirectory] = {}
        self._answered, self._begun, self._looked = 0, 0.0, 0.0

    @contextmanager
    def share_questions(self, plan: Plan, samples: list[Sample]) -> Iterator[list[Sample]]:
        """Divide `samples` among the processes; the others load their models at once. Yield this process's share.

        After the block their answers are in the plan's run directory. An error in it ends the children; their answers
        so far are merged when the run is resumed.
        """
        own, *others = split_questions(samples, self.size, plan.config.batch_size, plan.dtype != torch.float32)
        self.reports, self._shares, self._answered = {}, {}, 0
        for rank, questions in enumerate(others, start=1):
            job: Job = {
                "overrides": [*plan.config.overrides],
                "config_dir": plan.config.config_dir,
                "fingerprint": plan.directory.fingerprint,
                "device": plan.device.type,
                "questions": [sample.id for sample in questions],
            }
            self._shares[rank] = plan.directory.share(rank)
            with self._shares[rank].lock():
                self._shares[rank].write(JOB, to_json(job))
        threads = torch.get_num_threads()
        try:
            self._begun = time.monotonic()
            self.begin(plan.directory.path.absolute())
            torch.set_num_threads(self.threads or threads)
            yield own
        except BaseException:
            self.close()
            raise
        finally:
            torch.set_num_threads(threads)
        plan.directory.merge_shares()

    def watch(self, advance: Callable[[int], None]) -> Callable[[int], None]:
        """Return `advance` for this process's share, which now and then counts the other processes' answers too.

        It raises their errors: UserError if one refused its share, ProcessLost if it failed or died.
        """

        def advance_here(samples: int) -> None:
            advance(samples)
            if time.monotonic() - self._looked > POLL_SECONDS:
                self._look(advance)

        return advance_here

    def wait(self, advance: Callable[[int], None]) -> None:
        """Wait until all other processes have answered their shares. advance, errors: as of `watch`."""
        while not self._look(advance):
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End the children, at any moment of their work."""
        self.closed = True
        for child in self.children:
            child.kill()
            child.wait()

    def _look(self, advance: Callable[[int], None]) -> bool:
        """Count the new answers of the other processes; return True if all have ended. Raise their errors."""
        for rank in self._shares.keys() - self.reports.keys():
            if (report := self._final_report(rank)) is not None:
                self.reports[rank] = report
        answered = sum(count_lines(share.path, "predictions.jsonl", "bad.jsonl") for share in self._shares.values())
        advance(answered - self._answered)
        self._answered, self._looked = answered, time.monotonic()
        return len(self.reports) == len(self._shares)

    def _final_report(self, rank: int) -> Report | None:
        """Return the report of a process that has answered its share; None while it works. Raise its error."""
        folder, child = self._shares[rank].path, self.children[rank - 1] if self.children else None
        if not (folder / REPORT).exists():
            if child is not None and (code := child.poll()) is not None:
                raise self._lost(rank, describe_exit(code))
            if child is None and time.monotonic() - self._begun > BEGIN_SECONDS:
                raise self._lost(rank, f"did not find {folder} in {BEGIN_SECONDS:.0f} s")
            return None
        if is_held(folder):
            return None
        report = read_json(folder / REPORT, Report)
        if "refused" in report:
            raise UserError(report["refused"])
        device = f" ({report['device']})"
        if "failed" in report:
            raise self._lost(rank, report["failed"], device)
        if "seconds" not in report:
            raise self._lost(rank, "died" if child is None else describe_exit(child.wait()), device)
        return report

    def _lost(self, rank: int, reason: str, device: str = "") -> ProcessLost:
        return ProcessLost(
            f"process {rank + 1} of {self.size}{device}: {reason}; the others were stopped, and every answer so far is "
            "kept: the same command resumes, with this or another number of devices"
        )
