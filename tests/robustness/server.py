"""A process that has everything imported and forks one `vlmprune` per request: ten times as many kills per minute.

Requests and answers are JSON lines on stdin and stdout; the client is tests/robustness/victims.py. The server itself
runs nothing, so that it has no thread of its own that a fork would leave behind.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.robustness.faults import Disk


def preload(modules: list[str]) -> int:
    """Import what a run imported; returns the number of threads afterwards."""
    for name in modules:
        importlib.import_module(name)
    return len(list(Path("/proc/self/task").iterdir()))


def importable() -> list[str]:
    """Modules of this process that `import NAME` would find in another one."""
    found = {name: getattr(module, "__spec__", None) for name, module in sys.modules.items()}
    return [name for name, spec in found.items() if spec and spec.has_location and spec.name == name]


def start(number: int, request: dict[str, Any]) -> int:
    """Fork; returns the child's pid, and 0 in the child, which is then set up as a process of its own."""
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir(request["folder"])
    for descriptor, name in ((0, os.devnull), (1, f"{number}.out"), (2, f"{number}.err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o644), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0


def finish(pid: int, moment: float | None, number: int) -> dict[str, Any]:
    """Wait for a child to end; at `moment` it gets signal `number` if it still runs."""
    while moment is not None and time.monotonic() < moment:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return {"code": os.waitstatus_to_exitcode(status)}
        time.sleep(max(0.0, min(0.002, moment - time.monotonic())))
    if moment is not None:
        os.kill(pid, number)
    return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def serve() -> None:
    """Answer requests until stdin closes; in a child, be `vlmprune`."""
    answers = os.fdopen(os.dup(1), "w")
    requests = os.fdopen(os.dup(0), "r")
    started: dict[int, float] = {}
    for line in iter(requests.readline, ""):
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "preload" in request:
            answer = {"threads": preload(request["preload"])}
        elif "start" in request or "command" in request:
            pid = start(len(started), request)
            if pid == 0:
                code = (
                    command(request)
                    if "command" in request
                    else vlmprune(request["start"], request["modules"], request["die_at"])
                )
                sys.stdout.flush()
                os._exit(code)  # taking down a forked interpreter takes seconds: every object's page is copied first
            started[pid] = time.monotonic()
            answer = {"pid": pid, "number": len(started) - 1}
        else:
            after = request["after"]
            answer = finish(
                request["pid"], None if after is None else started[request["pid"]] + after, request["signal"]
            )
        print(json.dumps(answer), file=answers, flush=True)


def vlmprune(arguments: list[str], modules: str | None, die_at: int | None) -> int:
    """The command. die_at: number of the write to outputs/ at which it dies.

    Afterwards the names of all that it imported, and all writes, go to the file `modules`.
    """
    from vlmprune.cli import main

    with Disk(Path("outputs").absolute(), die_at, die) as disk:
        code = main([*arguments, f"outputs={disk.folder}"])
    if modules is not None:
        Path(modules).write_text(json.dumps({"modules": importable(), "writes": disk.points}))
    return code


def command(request: dict[str, Any]) -> int:
    """The command as typed, with variables of its own; an exception is told as the interpreter tells it."""
    from vlmprune.cli import main

    os.environ |= request["environment"]
    try:
        return main(request["command"])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()


def die() -> None:
    """As a machine that loses power, or the kernel that needs memory."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve()
