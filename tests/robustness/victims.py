"""`vlmprune` processes that start at once and can be killed at a moment of their life (see server.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # no thread that a fork would leave behind
}


def shell(folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The line in bash, where `vlmprune` is this one; its exit code is that of vlmprune in a pipe too."""
    start = f'set -o pipefail; vlmprune() {{ "{sys.executable}" -m vlmprune "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", start + line],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=600,
    )


@dataclass(frozen=True)
class Ended:
    """The end of a process. code: as of subprocess, -9 after SIGKILL. seconds: from its start."""

    code: int
    errors: str
    seconds: float
    output: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Victims:
    """A client of the server; `close` it. Not for several threads."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.robustness.server"]
        self._server = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._files: dict[int, Path] = {}
        self._born: dict[int, float] = {}

    def warm_up(self, folder: Path, *arguments: str) -> list[str]:
        """Let one process run to its end, and import beforehand what it imported. Returns what it wrote, in order."""
        file = folder / "imported.json"
        ended = self.end(self.start(folder, *arguments, modules=str(file)))
        assert ended.code == 0, ended.errors
        found = json.loads(file.read_text())
        answer = self._ask({"preload": found["modules"]})
        assert answer["threads"] == 1, f"the fork server has {answer['threads']} threads"
        return found["writes"]

    def start(self, folder: Path, *arguments: str, die_at: int | None = None, modules: str | None = None) -> int:
        """Start `vlmprune ARGUMENTS outputs=FOLDER/outputs`, which dies at write number `die_at`; returns its pid."""
        folder.mkdir(parents=True, exist_ok=True)
        born = time.monotonic()
        request = {"start": arguments, "folder": str(folder), "modules": modules, "die_at": die_at}
        answer = self._ask(request)
        self._files[answer["pid"]], self._born[answer["pid"]] = folder / f"{answer['number']}.err", born
        return answer["pid"]

    def end(self, pid: int, after: float | None = None, number: int = signal.SIGKILL) -> Ended:
        """Wait until it ends; `after` seconds of its life it gets the signal `number`, if it still runs."""
        answer = self._ask({"pid": pid, "after": after, "signal": int(number)})
        file = self._files[pid]  # a child that was killed at once had no time to create it
        errors = file.read_text(errors="replace") if file.exists() else ""
        return Ended(answer["code"], errors, time.monotonic() - self._born[pid])

    def run(self, folder: Path, *arguments: str) -> Ended:
        """Start it and wait until it ends by itself."""
        return self.end(self.start(folder, *arguments))

    def command(self, folder: Path, arguments: tuple[str, ...], environment: dict[str, str], longest: float) -> Ended:
        """Run `vlmprune ARGUMENTS`, as typed, in `folder`; it is killed after `longest` seconds."""
        began = time.monotonic()
        answer = self._ask({"command": arguments, "environment": environment, "folder": str(folder)})
        name = folder / str(answer["number"])
        ended = self._ask({"pid": answer["pid"], "after": longest, "signal": int(signal.SIGKILL)})
        output, errors = (
            file.read_text(errors="replace") if file.exists() else ""
            for file in (name.with_suffix(".out"), name.with_suffix(".err"))
        )
        return Ended(ended["code"], errors, time.monotonic() - began, output)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None and self._server.stdout is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())
