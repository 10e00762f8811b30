"""The loop of every process but process 0: it works on the runs that process 0 sends, until that process is gone.

`devices=` starts it as `python -m vlmprune.distributed.worker DESCRIPTOR`, where DESCRIPTOR is an open socket.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from typing import Any

import torch

from vlmprune.config.settings import compose_run
from vlmprune.distributed.messages import Connection, RemoteRunDirectory
from vlmprune.errors import UserError
from vlmprune.evaluation.evaluate import load_models, make_evaluation
from vlmprune.evaluation.plan import Resources, make_plan
from vlmprune.measure.memory import peak_mb, reset_peak

Message = tuple[str, Any]


def serve(connection: Connection) -> int:
    """Work on one run after another; return the exit code. An error is sent to process 0 and ends this process."""
    inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=receive_messages, args=(connection, inbox, busy), daemon=True).start()
    resources = Resources()
    while (message := inbox.get()) is not None:
        busy.set()
        try:
            peak = answer_share(message[1], connection, inbox, resources)
        except UserError as error:
            connection.send("refused", str(error))
            return 2
        except Exception as error:
            connection.send("failed", f"{type(error).__name__}: {' '.join(str(error).split())}, see its traceback")
            raise
        finally:
            busy.clear()
        connection.send("done", peak)  # process 0 may exit at any moment after this
    return 0


def receive_messages(connection: Connection, inbox: queue.SimpleQueue[Message | None], busy: threading.Event) -> None:
    """Queue the messages of process 0. Once it is gone, end, even during a run: this process writes no files."""
    while (message := connection.receive()) is not None:
        inbox.put(message)
    if busy.is_set():
        os._exit(1)
    inbox.put(None)


def answer_share(
    job: dict[str, Any],
    connection: Connection,
    inbox: queue.SimpleQueue[Message | None],
    resources: Resources,
) -> float:
    """Answer this process's share of a run's questions; return its peak memory in MB. Raise the errors of a run."""
    folder = job["config_dir"]
    if folder and (package := os.path.dirname(folder)) not in sys.path:
        sys.path.insert(0, package)  # a user's package lies beside the config folder
    plan = make_plan(compose_run(job["overrides"], folder), resources)
    if plan.directory.fingerprint != job["fingerprint"]:
        raise UserError(
            f"{socket.gethostname()} ({plan.device}) has another code, checkpoint or dataset than process 1: all "
            "processes need the same"
        )
    if plan.device.type == "cuda":
        torch.cuda.set_device(plan.device)
    reset_peak(plan.device)
    loaded, text_tower = load_models(plan, resources)
    connection.send("ready")
    message = inbox.get()
    if message is None:
        raise ConnectionError("process 0 is gone")
    samples = {sample.id: sample for sample in plan.samples}
    share = [samples[name] for name in message[1]]
    make_evaluation(plan, loaded, text_tower, RemoteRunDirectory(plan.directory, connection), lambda _: None).run(share)
    return peak_mb(plan.device)


def main() -> int:
    """Serve on the socket whose descriptor the command line gives; return the exit code."""
    try:
        return serve(Connection(socket.socket(fileno=int(sys.argv[1]))))
    except ConnectionError:  # process 0 ended while this one was sending to it
        return 1


if __name__ == "__main__":
    sys.exit(main())
