"""The other processes of a run as process 0 sees them, and the questions that each answers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from vlmprune.benchmarks.base import Sample
from vlmprune.distributed.messages import Connection, MergedRunDirectory
from vlmprune.errors import ProcessLost, UserError, describe_exit
from vlmprune.evaluation.batching import group_by_image, windows
from vlmprune.evaluation.plan import Plan
from vlmprune.evaluation.run_directory import RunDirectory


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


STOP_SECONDS = 20  # a process notices a closed socket only after it has imported its libraries


@dataclass
class Process:
    """One of the other processes. local: rank on its machine and index of its GPU; child: None under a launcher."""

    rank: int
    local: int
    connection: Connection
    child: subprocess.Popen[bytes] | None = None
    device: str = ""  # in the last run


class Team:
    """All processes but process 0. One team serves several runs in turn; an error in a run ends all its processes.

    threads: CPU threads of each process; None leaves the number of this process unchanged.
    """

    def __init__(self, members: list[Process], threads: int | None = None) -> None:
        self.members, self.threads = members, threads
        self.closed = False
        self.peaks: list[float] = []  # peak memory of each member in the last run, MB

    @property
    def size(self) -> int:
        """The number of processes, this one included."""
        return len(self.members) + 1

    @contextmanager
    def start_run(self, plan: Plan) -> Iterator[None]:
        """Start a run on the other processes, which load their models at once. An error in the block ends them."""
        try:
            for member in self.members:
                member.device = f"cuda:{member.local}" if plan.device.type == "cuda" else plan.device.type
                overrides = [*plan.config.overrides, f"device={member.device}", "devices=1"]
                job = {"overrides": overrides, "config_dir": plan.config.config_dir}
                self._send(member, "run", job | {"fingerprint": plan.directory.fingerprint})
            yield
        except BaseException:
            self.close()
            raise

    def send_questions(self, samples: list[Sample], plan: Plan) -> list[Sample]:
        """Send each process its questions once every model is loaded; return this process's share."""
        for member in self.members:
            self._receive(member)  # 'ready'
        own, *others = split_questions(samples, self.size, plan.config.batch_size, plan.dtype != torch.float32)
        for member, share in zip(self.members, others, strict=True):
            self._send(member, "questions", [sample.id for sample in share])
        return own

    @contextmanager
    def collect_rows(
        self, directory: RunDirectory, advance: Callable[[int], None]
    ) -> Iterator[tuple[RunDirectory, Callable[[int], None]]]:
        """Write the other processes' rows as they arrive; the block ends when all processes are done.

        advance: called with the number of samples that any process has finished. Yields a run directory and an
        `advance` to use for this process's share; the latter also raises the errors of the other processes.
        """
        gathered = MergedRunDirectory(directory, advance)
        with self._thread_limit(), ThreadPoolExecutor(self.size) as threads:
            peaks = [threads.submit(self._collect_from, member, gathered) for member in self.members]

            def advance_here(samples: int) -> None:
                for peak in peaks:
                    if peak.done():
                        peak.result()  # raises the error of that process
                advance(samples)

            try:
                yield gathered, advance_here
                for peak in as_completed(peaks):
                    peak.result()
            except BaseException:
                self.close()  # without it the threads would never end
                raise
        self.peaks = [peak.result() for peak in peaks]

    @contextmanager
    def _thread_limit(self) -> Iterator[None]:
        """Limit this process to `threads` CPU threads inside the block, so that the others have cores too."""
        if self.threads is None:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """Close all connections, which ends the other processes, and wait for those that this process started."""
        self.closed = True
        for member in self.members:
            member.connection.close()
        for child in [member.child for member in self.members if member.child is not None]:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _collect_from(self, member: Process, gathered: MergedRunDirectory) -> float:
        """Write the rows that a member sends until it is done; return its peak memory in MB."""
        while True:
            kind, content = self._receive(member)
            if kind == "done":
                return content
            gathered.receive(kind, content)

    def _send(self, member: Process, kind: str, content: object) -> None:
        try:
            member.connection.send(kind, content)
        except OSError as error:
            raise self._lost(member) from error

    def _receive(self, member: Process) -> tuple[str, Any]:
        """Return the next message. Raise UserError if the member refused its job, ProcessLost if it failed or died."""
        message = member.connection.receive()
        if message is None:
            raise self._lost(member)
        kind, content = message
        if kind == "refused":
            raise UserError(content)
        if kind == "failed":
            raise self._lost(member, content)
        return kind, content

    def _lost(self, member: Process, reason: str = "died") -> ProcessLost:
        if member.child is not None and reason == "died":
            reason = describe_exit(member.child.wait(STOP_SECONDS))
        return ProcessLost(
            f"process {member.rank + 1} of {self.size} ({member.device}): {reason}; the others were stopped, and every "
            "answer so far is kept: the same command goes on, with this or another number of devices"
        )
