"""A worker process of launcher=gpus: tasks come as JSON lines on stdin, outcomes go as JSON lines to stdout."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict

from vlmprune.launchers.base import Task
from vlmprune.launchers.task import run_task_apart
from vlmprune.plan import shared_benchmarks


def main() -> None:
    """Work until stdin closes. In the middle of a task that is as Ctrl-C: the run ends cleanly and can be resumed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the sweep with it ignored
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=receive, args=(tasks, busy), daemon=True).start()
    try:
        with shared_benchmarks():
            while (task := tasks.get()) is not None:
                busy.set()
                print(json.dumps(asdict(run_task_apart(task))), file=answers, flush=True)
                busy.clear()
    except KeyboardInterrupt:
        # At once: the run is left as it stands on the disk, and threads that decode images are not awaited.
        os._exit(130)


def receive(tasks: queue.SimpleQueue[Task | None], busy: threading.Event) -> None:
    """Queue what arrives on stdin; when it closes, stop the task that runs."""
    for line in sys.stdin:
        tasks.put(Task(**json.loads(line)))
    tasks.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
