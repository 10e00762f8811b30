"""Uploading what W&B wrote offline: `wandb sync` in a process of its own, which no run waits for.

A server that fails, hangs or sends what crashes W&B's client is that process's trouble. It first asks whether the
server answers at all, and gives up after UPLOAD_SECONDS. What it says goes to upload.log beside the offline runs.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlmprune.loggers.account import server
from vlmprune.progress import say

LOG = "upload.log"
SILENT = "WANDB_SILENT"
SERVICE = "WANDB_SERVICE"  # where W&B's client notes the service process that it started
ANSWER_SECONDS, UPLOAD_SECONDS = 4.0, 600.0
EXIT_SECONDS = 15.0  # that the end of the whole process waits for uploads under way, so that they are not cut off
FAILED, UNREACHABLE = 1, 3  # exit codes


@dataclass
class Upload:
    """One offline run on its way."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return self.folder.parent / LOG

    @property
    def address(self) -> str:
        """Where the run can be seen; "" where the log does not say."""
        # `wandb sync` (wandb 0.31) says it in this line alone.
        found = re.search(r"View run .*?(https?://\S+)", self.log.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else ""


_uploads: list[Upload] = []


def unreachable() -> bool:
    """Whether an upload of this process found that the server does not answer."""
    return any(upload.process.poll() == UNREACHABLE for upload in _uploads)


def begin(folder: Path) -> Upload:
    """Start uploading the offline run in `folder`. Raises OSError where no process or log can be made."""
    if not _uploads:
        atexit.register(settle, EXIT_SECONDS)
    command = [sys.executable, "-m", __name__, str(folder.resolve())]
    with open(folder.parent / LOG, "wb") as log:
        # In a session of its own Ctrl-C at the run does not tear the upload in two; without the name of this process's
        # W&B service it starts one of its own, whose end is then no business of the run. Its log tells the address.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in (SERVICE, SILENT)},
        )
    upload = Upload(folder, process)
    _uploads.append(upload)
    return upload


def settle(seconds: float) -> None:
    """Wait for uploads at most `seconds`, all together, and say in a line or two what became of them."""
    deadline = time.monotonic() + seconds
    done, failed, going = list[Upload](), list[Upload](), list[Upload]()
    for upload in _uploads:
        try:
            code = upload.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            going.append(upload)
        else:
            (failed if code else done).append(upload)
    _uploads.clear()
    atexit.unregister(settle)
    if len(done) == 1:
        say(f"W&B    {done[0].address}")
    elif done:
        say(f"W&B    {len(done)} runs uploaded: {done[-1].address.partition('/runs/')[0]}")
    if failed:
        say(
            f"warning: W&B did not take {count(failed)} (see {failed[-1].log}); later: "
            f"{sync_command(upload.folder.parent.parent for upload in failed)}"
        )
    if going:
        say(f"W&B    {count(going)} still uploading in the background: {going[-1].log}")


def count(uploads: list[Upload]) -> str:
    """'1 run', '3 runs'."""
    return f"{len(uploads)} run{'s' if len(uploads) > 1 else ''}"


def left_offline(directories: Iterable[Path]) -> list[Path]:
    """Those run directories whose W&B run is offline with no upload begun."""
    return [each for each in directories if not (each / "wandb" / LOG).exists()]


def sync_command(directories: Iterable[Path]) -> str | None:
    """The shell command that uploads the offline runs of run directories, of one or of a whole sweep.

    None where there are none. What is uploaded already is skipped by `wandb sync` itself.
    """
    having = [directory for directory in directories if any(directory.glob("wandb/offline-run-*"))]
    if not having:
        return None
    if len(having) == 1:
        return f"wandb sync {shlex.quote(str(having[0]))}/wandb/offline-run-*"
    parents = dict.fromkeys(directory.parent for directory in having)
    return " ".join(["wandb sync", *(f"{shlex.quote(str(parent))}/*/wandb/offline-run-*" for parent in parents)])


def main(folder: str) -> int:
    """What the process does; its exit code."""
    address = server()
    if not answers(address):
        print(f"{address} does not answer", flush=True)
        return UNREACHABLE
    # wandb has a process of its own under it, which must not survive it either.
    sync = subprocess.Popen([sys.executable, "-m", "wandb", "sync", folder], start_new_session=True)
    try:
        return FAILED if sync.wait(UPLOAD_SECONDS) else 0
    except subprocess.TimeoutExpired:
        os.killpg(sync.pid, signal.SIGKILL)
        print(f"gave up after {UPLOAD_SECONDS:.0f} s", flush=True)
        return FAILED


def answers(address: str) -> bool:
    """Whether an HTTP server answers there soon, with anything but an error of its own."""
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):  # no route, no name, no answer, no such address
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
