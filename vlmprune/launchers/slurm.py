"""launcher=slurm: one Slurm job per run, submitted through submitit as a job array.

Logs and outputs must be on a disk that the nodes share, and vlmprune installed there. A job that is preempted or runs
out of time is queued again by submitit and resumes its run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from vlmprune.config.settings import RunConfig
from vlmprune.errors import UserError
from vlmprune.launchers.base import Outcome, Task, Worker, WorkerLauncher, need
from vlmprune.launchers.task import TaskRunner


@dataclass
class Slurm(WorkerLauncher):
    """launcher=slurm. cluster: `slurm`, or `local` for submitit's executor of processes on this machine. gpus, cpus,
    memory_gb: of each job. time: its limit in minutes. array: jobs that run at the same time, at most (`local`: 1
    unless given). setup: shell lines before each job. extra: further options of sbatch, by their long names.
    """

    here: ClassVar[bool] = False

    cluster: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: Annotated[int, Interval(ge=0, le=1024)] = 1
    cpus: Annotated[int, Interval(ge=1, le=4096)] = 8
    memory_gb: Annotated[int, Interval(ge=1, le=1_000_000)] | None = None
    time: Annotated[int, Interval(ge=1, le=10_000_000)] = 240
    array: Annotated[int, Interval(ge=1, le=100_000)] | None = None
    setup: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        need("submitit", "slurm", "launcher=slurm")
        self._executor: Any = None
        self._workers: list[SlurmWorker] = []

    def check(self, configs: list[RunConfig], dry: bool = False) -> None:
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError("launcher=slurm: no srun here; start it on a login node, or try launcher.cluster=local")

    def hire(self, tasks: list[Task], folder: Path) -> list[Worker]:
        import submitit

        self._executor = submitit.AutoExecutor(folder=folder / "submitit", cluster=self.cluster)
        self._executor.update_parameters(**self.parameters())
        # Slurm limits the jobs that run at one time; the local executor would start all of them.
        slots = len(tasks) if self.cluster == "slurm" else min(self.array or 1, len(tasks))
        self._workers = [SlurmWorker(self._executor) for _ in range(slots)]
        return list(self._workers)

    def parameters(self) -> dict[str, Any]:
        """Return the settings by submitit's names."""
        given: dict[str, Any] = {"name": "vlmprune", "timeout_min": self.time, "cpus_per_task": self.cpus}
        given |= {"gpus_per_node": self.gpus, "mem_gb": self.memory_gb, "slurm_array_parallelism": self.array}
        given |= {"slurm_partition": self.partition, "slurm_account": self.account, "slurm_qos": self.qos}
        given |= {"slurm_setup": self.setup, "slurm_additional_parameters": self.extra}
        return {name: value for name, value in given.items() if value not in (None, [], {})}

    @contextmanager
    def submitting(self) -> Iterator[None]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with self._executor.batch():  # one job array
                yield
        except (FailedJobError, FailedSubmissionError) as error:
            for worker in self._workers:
                worker.job = None  # none of this array exists
            raise UserError(f"launcher=slurm: Slurm refused the jobs: {' '.join(str(error).split())}") from error


class SlurmWorker(Worker):
    """Worker whose tasks are jobs of the cluster, one after the other."""

    def __init__(self, executor: Any) -> None:
        self.executor, self.job = executor, None

    def begin(self, task: Task) -> None:
        self.job = self.executor.submit(SlurmJob(), task)

    def outcome(self) -> Outcome | None:
        job: Any = self.job
        if not job.done():
            return None
        self.job = None
        if job.exception() is None:
            return job.result()
        reason = f"its job {job.job_id} died ({job.state}, no result); the same command resumes the run; log: "
        return Outcome("failed", reason + str(job.paths.stderr))

    def stop(self) -> None:
        if self.job is not None:
            self.job.cancel(check=False)
            self.job = None


class SlurmJob:
    """Function of a job. submitit calls `checkpoint` when the job is preempted or its time is over."""

    def __call__(self, task: Task) -> Outcome:
        return TaskRunner().run(task)

    def checkpoint(self, task: Task) -> Any:
        """Return the same job to queue again; it resumes the run."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)
