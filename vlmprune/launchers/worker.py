"""Worker process of launcher=gpus, which reads tasks from stdin and writes outcomes to stdout, as JSON lines."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict

from vlmprune.launchers.base import Task
from vlmprune.launchers.task import TaskRunner


def main() -> None:
    """Run tasks until stdin closes. Within a task that acts as Ctrl-C: the run ends cleanly and can be resumed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell may have set it to be ignored
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # text that libraries print must not mix with the outcomes
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=receive, args=(tasks, busy), daemon=True).start()
    runner = TaskRunner()
    try:
        while (task := tasks.get()) is not None:
            busy.set()
            print(json.dumps(asdict(runner.run(task))), file=answers, flush=True)
            busy.clear()
    except KeyboardInterrupt:
        # Exit at once: the run's files are on the disk, and threads that decode images are not awaited.
        os._exit(130)


def receive(tasks: queue.SimpleQueue[Task | None], busy: threading.Event) -> None:
    """Queue the tasks that arrive on stdin; when it closes, stop the task that runs."""
    for line in sys.stdin:
        tasks.put(Task(**json.loads(line)))
    tasks.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
