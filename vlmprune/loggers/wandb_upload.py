"""Upload of W&B's offline files while they are written: `wandb beta sync --live` in a process that no run waits for.

A server that fails, hangs or crashes W&B's client affects that process alone. The process first checks that the server
answers. It gives up UPLOAD_SECONDS after the end of the run, BROKEN_SECONDS after that of a killed one. Its output goes
to upload.log beside the offline runs.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlmprune.loggers.wandb_account import server_address
from vlmprune.terminal import say

LOG = "upload.log"
SILENT = "WANDB_SILENT"
SERVICE = "WANDB_SERVICE"  # variable with the service process that W&B's client started
ANSWER_SECONDS, UPLOAD_SECONDS = 4.0, 600.0
BROKEN_SECONDS = 30.0  # in place of UPLOAD_SECONDS, if the run was killed
EXIT_SECONDS = 15.0  # how long the exit of this process waits for uploads under way
FAILED, UNREACHABLE = 1, 3  # exit codes


@dataclass
class Upload:
    """Upload of one offline run."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return self.folder.parent / LOG

    @property
    def address(self) -> str:
        """Return the address of the run's page; "" if the log has none."""
        # `wandb beta sync` (wandb 0.31) prints it in this line alone.
        found = re.search(r"View run .*?(https?://\S+)", self.log.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else ""

    def end(self, whole: bool) -> None:
        """Tell the process that its run has ended, so that it ends too. whole: W&B's file has the end of the run."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it may have ended already
            if whole:
                self.process.stdin.write(b"end")
            self.process.stdin.close()


class Uploads:
    """The uploads of one process's runs, which go on beside later runs. The exit of the process reports them."""

    def __init__(self) -> None:
        self.started: list[Upload] = []

    @property
    def server_unreachable(self) -> bool:
        """Return True if an upload found that the server does not answer."""
        return any(upload.process.poll() == UNREACHABLE for upload in self.started)

    def start(self, folder: Path) -> Upload:
        """Start uploading the offline run in `folder`. Raises OSError if no process or log can be made."""
        if not self.started:
            atexit.register(self.report, EXIT_SECONDS)
        command = [sys.executable, "-m", __name__, str(folder.resolve())]
        with open(folder.parent / LOG, "wb") as log:
            # In a new session Ctrl-C at the run does not interrupt the upload. The pipe says when the run ends, also
            # when it is killed.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        self.started.append(Upload(folder, process))
        return self.started[-1]

    def report(self, seconds: float) -> None:
        """Wait for all uploads, at most `seconds` together, and print their outcomes in a line or two."""
        self.started = [upload for upload in self.started if upload.folder.exists()]  # not of a run that was refused
        deadline = time.monotonic() + seconds
        done, failed, going = list[Upload](), list[Upload](), list[Upload]()
        for upload in self.started:
            try:
                code = upload.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                going.append(upload)
            else:
                (failed if code else done).append(upload)
        self.started.clear()
        atexit.unregister(self.report)
        if len(done) == 1:
            say(f"W&B    {done[0].address}")
        elif done:
            say(f"W&B    {len(done)} runs uploaded: {done[-1].address.partition('/runs/')[0]}")
        if failed:
            say(
                f"warning: W&B did not take {count_text(failed)} (see {failed[-1].log}); later: "
                f"{sync_command(upload.folder.parent.parent for upload in failed)}"
            )
        if going:
            say(f"W&B    {count_text(going)} still uploading in the background: {going[-1].log}")


def count_text(uploads: list[Upload]) -> str:
    """Return the number of uploads as text: '1 run', '3 runs'."""
    return f"{len(uploads)} run{'s' if len(uploads) > 1 else ''}"


def directories_without_upload(directories: Iterable[Path]) -> list[Path]:
    """Return the run directories in which no upload of the offline W&B run has begun."""
    return [each for each in directories if not (each / "wandb" / LOG).exists()]


def sync_command(directories: Iterable[Path]) -> str | None:
    """Return the shell command that uploads the offline runs of run directories, of one or of a whole sweep.

    None if there are none. `wandb sync` skips runs that are uploaded already.
    """
    having = [directory for directory in directories if any(directory.glob("wandb/offline-run-*"))]
    if not having:
        return None
    if len(having) == 1:
        return f"wandb sync {shlex.quote(str(having[0]))}/wandb/offline-run-*"
    parents = dict.fromkeys(directory.parent for directory in having)
    return " ".join(["wandb sync", *(f"{shlex.quote(str(parent))}/*/wandb/offline-run-*" for parent in parents)])


def main(folder: str) -> int:
    """Upload the offline run in `folder`, also while it is written; returns the exit code of this process."""
    address = server_address()
    if not server_responds(address):
        print(f"{address} does not answer", flush=True)
        return UNREACHABLE
    command = [sys.executable, "-m", "wandb", "beta", "sync", "--live", "--yes", folder]
    # Its cache and log are of no use later: not into the run's cache, which is removed, nor into the working folder.
    with tempfile.TemporaryDirectory() as scratch:
        # Without the name of the run's W&B service it starts one that the run does not depend on. Not silent: its
        # output has the address of the run's page.
        environment = {name: value for name, value in os.environ.items() if name not in (SERVICE, SILENT)}
        environment |= {"WANDB_CACHE_DIR": scratch, "WANDB_DIR": scratch}
        # wandb starts a child process; killing the whole session ends both.
        sync = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)
        # Empty if the run was killed: its file has no end, for which --live waits for ever.
        seconds = UPLOAD_SECONDS if sys.stdin.read() else BROKEN_SECONDS
        try:
            return FAILED if sync.wait(seconds) else 0
        except subprocess.TimeoutExpired:
            os.killpg(sync.pid, signal.SIGKILL)
            print(f"gave up {seconds:.0f} s after the end of the run", flush=True)
            return FAILED


def server_responds(address: str) -> bool:
    """Return True if an HTTP server answers within ANSWER_SECONDS, with any status below 500."""
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):  # no route, no name, no answer, no such address
        return False


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)  # the run comes first
    sys.exit(main(sys.argv[1]))
