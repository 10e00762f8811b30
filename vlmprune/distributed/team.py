"""The other processes, as process 0 sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vlmprune.benchmarks.base import Sample
from vlmprune.distributed.gathered import Gathered
from vlmprune.distributed.shares import deal
from vlmprune.distributed.wire import Line
from vlmprune.errors import ProcessLost, UserError
from vlmprune.exits import describe_exit
from vlmprune.plan import Plan
from vlmprune.records import RunDirectory

STOP_SECONDS = 20  # a process that is still importing its libraries notices only then


@dataclass
class Member:
    """One of the other processes. local: its number on its machine, which is its GPU's. child: if we started it."""

    rank: int
    local: int
    line: Line
    child: subprocess.Popen[bytes] | None = None
    device: str = ""  # of the last run


class Team:
    """All processes but this one, which is 0. It is used for one run after the other; an error in a run ends it.

    threads: that each computes with on the CPU; None leaves this process as it is.
    """

    def __init__(self, members: list[Member], threads: int | None = None) -> None:
        self.members, self.threads = members, threads
        self.closed = False
        self.peaks: list[float] = []  # of the last run, MB, one for each member

    @property
    def size(self) -> int:
        """How many processes there are, this one included."""
        return len(self.members) + 1

    @contextmanager
    def running(self, plan: Plan) -> Iterator[None]:
        """Inside, the others work on a run; each begins to load its model at once."""
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

    def share(self, samples: list[Sample], plan: Plan) -> list[Sample]:
        """Deal out the questions once every model is loaded; returns this process's share."""
        for member in self.members:
            self._receive(member)  # 'ready'
        own, *others = deal(samples, self.size, plan.config.batch_size, plan.dtype != torch.float32)
        for member, share in zip(self.members, others, strict=True):
            self._send(member, "questions", [sample.id for sample in share])
        return own

    @contextmanager
    def gathering(
        self, directory: RunDirectory, advance: Callable[[int], None]
    ) -> Iterator[tuple[RunDirectory, Callable[[int], None]]]:
        """Inside, what the others send is written as it comes; it is left when all are done.

        advance: told how many samples are done, whoever did them. Yields both anew, for this process's own share.
        """
        gathered = Gathered(directory, advance)
        with self._own_cores(), ThreadPoolExecutor(self.size) as threads:
            peaks = [threads.submit(self._gather, member, gathered) for member in self.members]

            def advance_here(samples: int) -> None:
                for peak in peaks:
                    if peak.done():
                        peak.result()  # raises what went wrong there
                advance(samples)

            try:
                yield gathered, advance_here
                for peak in as_completed(peaks):
                    peak.result()
            except BaseException:
                self.close()  # which the threads wait for
                raise
        self.peaks = [peak.result() for peak in peaks]

    @contextmanager
    def _own_cores(self) -> Iterator[None]:
        """Inside, this process leaves to the others their share of the cores."""
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
        """Hang up, which ends the others, and wait until those are gone that this process started."""
        self.closed = True
        for member in self.members:
            member.line.close()
        for child in [member.child for member in self.members if member.child is not None]:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _gather(self, member: Member, gathered: Gathered) -> float:
        """Write what a member sends until it is done; returns its peak of memory in MB."""
        while True:
            kind, content = self._receive(member)
            if kind == "done":
                return content
            gathered.receive(kind, content)

    def _send(self, member: Member, kind: str, content: object) -> None:
        try:
            member.line.send(kind, content)
        except OSError as error:
            raise self._lost(member) from error

    def _receive(self, member: Member) -> tuple[str, Any]:
        """The next message, if it is good news. Raises UserError for what cannot work, ProcessLost for all else."""
        message = member.line.receive()
        if message is None:
            raise self._lost(member)
        kind, content = message
        if kind == "refused":
            raise UserError(content)
        if kind == "failed":
            raise self._lost(member, content)
        return kind, content

    def _lost(self, member: Member, reason: str = "died") -> ProcessLost:
        if member.child is not None and reason == "died":
            reason = describe_exit(member.child.wait(STOP_SECONDS))
        return ProcessLost(
            f"process {member.rank + 1} of {self.size} ({member.device}): {reason}; the others were stopped, and every "
            "answer so far is kept: the same command goes on, with this or another number of devices"
        )
