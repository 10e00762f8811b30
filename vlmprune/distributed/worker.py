"""A process other than 0: it answers its share of a run's questions into a folder of its own.

`devices=` starts it as `python -m vlmprune.distributed.worker`. It reads the folders of its shares from stdin, one run
after another, and ends when stdin closes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import NotRequired

import torch
from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models, make_evaluation
from vlmprune.evaluation.plan import Resources, make_plan
from vlmprune.evaluation.run_directory import RunDirectory
from vlmprune.files import to_json
from vlmprune.measure.memory import peak_mb, reset_peak
from vlmprune.own_code import user_traceback
from vlmprune.typed_json import STRICT, Amount, read_json

JOB, REPORT = "job.json", "report.json"


@with_config(STRICT)
class Job(TypedDict):
    """Task of a share, which process 0 writes into the share's folder.

    device: cpu, or cuda for the GPU of the process's LOCAL_RANK. questions: ids.
    """

    overrides: list[str]
    config_dir: str | None
    fingerprint: str
    device: str
    questions: list[str]


@with_config(STRICT)
class Report(TypedDict):
    """Report of the process in the same folder: its device when it begins, and how its share ended.

    seconds, peak_mb: of a share that is answered. refused: the message of a UserError; failed: that of another error.
    """

    device: str
    seconds: NotRequired[Amount]
    peak_mb: NotRequired[Amount]
    refused: NotRequired[str]
    failed: NotRequired[str]


def answer_share(folder: Path, resources: Resources) -> None:
    """Answer the questions of the job in `folder`, with a report of how it ended, also by an error."""
    job = read_json(folder / JOB, Job)
    share = RunDirectory(folder, job["fingerprint"])
    device = f"cuda:{os.environ['LOCAL_RANK']}" if job["device"] == "cuda" else job["device"]
    with share.lock():
        report: Report = {"device": device}
        share.write(REPORT, to_json(report))
        try:
            seconds, peak = answer_questions(job, share, device, resources)
            report |= {"seconds": seconds, "peak_mb": peak}
        except UserError as error:
            report["refused"] = str(error)
        except Exception as error:  # process 0 reports it too, and ends the others
            print(user_traceback(error) or traceback.format_exc(), file=sys.stderr)
            report["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())}, see its traceback"
        share.write(REPORT, to_json(report))


def answer_questions(job: Job, share: RunDirectory, device: str, resources: Resources) -> tuple[float, float]:
    """Answer the job's questions into `share`; return the seconds that took, and this process's peak memory in MB.

    Raises the errors of a run.
    """
    parent = os.getppid()
    folder = job["config_dir"]
    if folder and (package := os.path.dirname(folder)) not in sys.path:
        sys.path.insert(0, package)  # a user's package lies beside the config folder
    plan = make_plan(compose_run([*job["overrides"], f"device={device}", "devices=1"], folder), resources)
    if plan.directory.fingerprint != job["fingerprint"]:
        raise UserError(
            f"{socket.gethostname()} ({plan.device}) has another code, checkpoint or dataset than process 1: all "
            "processes need the same"
        )
    if plan.device.type == "cuda":
        torch.cuda.set_device(plan.device)
    reset_peak(plan.device)
    loaded, text_tower = load_models(plan, resources)

    def end_with_parent(_: int) -> None:
        if os.getppid() != parent:  # process 0, or the launcher, was killed
            sys.exit(1)

    evaluation = make_evaluation(plan, loaded, text_tower, share, end_with_parent)
    samples = {sample.id: sample for sample in plan.samples}
    start = time.perf_counter()
    evaluation.run([samples[name] for name in job["questions"]])
    return max(0.0, time.perf_counter() - start), peak_mb(plan.device)


def main() -> int:
    """Answer the shares whose folders stdin names, until it closes; return the exit code."""
    try:
        resources = Resources()
        for line in sys.stdin:
            answer_share(Path(json.loads(line)), resources)
    except UserError as error:  # its folder cannot be written, as on a full disk
        print(f"vlmprune: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
