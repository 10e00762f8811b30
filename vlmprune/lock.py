"""Lock of a folder for one process at a time, also on file systems without locks: NFS, some containers."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vlmprune.errors import UserError
from vlmprune.files import read_bytes
from vlmprune.progress import say
from vlmprune.typed_json import STRICT, parse_json

LOCK, HOLDER = ".lock", ".lock.held"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@with_config(STRICT)
class Holder(TypedDict):
    """The process that holds a folder. started: in clock ticks since boot, as a later process may get the same pid."""

    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    started: int


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` exclusively inside. Raise UserError if another process holds it, OSError if it is not writable.

    Where flock does not work, a file that only one process can create names the holder. If that process was killed,
    the next one on the same machine takes the file over.
    """
    # Without O_NONBLOCK, opening a pipe of that name would block.
    opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o666)  # noqa: E731
    with open(folder / LOCK, "w", encoding="utf-8", opener=opener) as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file: remove it", str(folder / LOCK))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(folder) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            say(f"warning: {folder} has no file locks ({error.strerror}): {HOLDER} in it says that it is in use")
        else:
            yield
            return
        _create(folder / HOLDER)
        try:
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)


def _in_use(folder: Path) -> UserError:
    return UserError(f"{folder} is in use by another vlmprune process: wait for it to end")


def _create(file: Path) -> None:
    """Create the file by which this process holds its folder. Raise UserError if another process holds it."""
    own = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_of(os.getpid())}
    while True:
        try:
            with open(file, "x", encoding="utf-8") as handle:
                json.dump(own, handle)
            return
        except FileExistsError:
            _remove_of_dead(file, socket.gethostname())


def _remove_of_dead(file: Path, host: str) -> None:
    """Remove the file of an ended process of this machine. Raise UserError for the file of any other process."""
    claim = file.with_name(f"{file.name}.claim")  # else a second process could remove the file that the first created
    try:
        claim.touch(exist_ok=False)
    except FileExistsError as error:
        raise UserError(f"{file} is being taken over by another process; if none runs, remove {claim}") from error
    try:
        holder = parse_json(read_bytes(file, largest=10_000), Holder)
        if holder["host"] != host:
            raise UserError(
                f"{file.parent} is in use by process {holder['pid']} on {holder['host']}: wait for it to end; if it is "
                f"gone, remove {file}"
            )
        if _start_of(holder["pid"]) == holder["started"]:
            raise _in_use(file.parent)
        file.unlink()
    except FileNotFoundError:
        pass  # its process has just ended
    except ValueError as error:
        raise UserError(
            f"{file} does not say who has {file.parent} ({error}): if no vlmprune runs there, remove it"
        ) from error
    finally:
        claim.unlink(missing_ok=True)


def _start_of(pid: int) -> int:
    """Return the start of a process in clock ticks; 0 if there is none. Without /proc, 1 for one that runs."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0
    except PermissionError:
        pass  # a process of another user
    return 1
