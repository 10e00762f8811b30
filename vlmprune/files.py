"""Files that a crash, a kill or a full disk at any moment leaves readable: whole ones, and lines that are appended."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError

PARTIAL = ".*.[0-9]*"  # what `write_atomically` left behind when its process was killed


LARGEST = 2**31  # bytes of a file that is read as a whole; predictions of a million questions are a third of it


def read_bytes(file: str | Path, largest: int = LARGEST) -> bytes:
    """Return the content of a regular file. Raises OSError: also for a pipe, which would be waited for, and a device.

    largest: bytes; a file that has more is not read.
    """
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file, but a pipe, socket or device", str(file))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes; at most {largest:,} are read", str(file))
        return handle.read()


def check_regular(file: str | Path) -> None:
    """Raise OSError where a library that opens `file` itself would wait for a pipe or read a device for ever."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, pipe, socket or device", str(file))


def to_json(data: Any) -> str:
    """Indented JSON; a nan is an error, not a token that other readers refuse."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the file and rename over it, so that no reader ever sees half of it. Raises OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def expanded(setting: str, value: str | Path) -> Path:
    """The path that a setting names, ~ and ~user in front replaced by the home folder.

    Raises UserError without one, and for a path that the system refuses to look up.
    """
    if "\0" in str(value):
        raise UserError(f"{setting}={value}: no file's name holds NUL")
    try:
        path = Path(value).expanduser()
        path.exists()  # False where there is nothing
        return path
    except OSError as error:
        raise UserError(f"{setting}={value}: {error.strerror}") from error
    except RuntimeError as error:
        user = str(value).partition("/")[0]
        raise UserError(
            f"{setting}={value}: {user} stands for no home folder here; ./{user} is a folder of that name"
        ) from error


def check_writable(setting: str, file: Path) -> None:
    """Create the file's folder and try the file itself, before minutes are spent on what goes into it.

    Raises UserError where it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.touch()
            file.unlink()
        elif file.is_dir():
            raise IsADirectoryError("it is a folder")
        elif not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):  # some are replaced, some rewritten
            raise PermissionError("no permission")
    except OSError as error:
        raise UserError(f"{setting}={file} cannot be written ({error.strerror or error})") from error


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What is wrong with the disk is the user's to repair: a UserError that says where, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); nothing that was answered is lost: repair that, "
            "and the same command goes on where it stopped"
        ) from error


def append_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append one JSON line per row, flushed and synced. Raises UserError; the last line may then be cut short."""
    if not rows:
        return
    with told(path), open(path, "a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())
