"""Writing of whole files and of appended lines that stay readable after a crash, a kill or a full disk."""

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

PARTIAL = ".*.[0-9]*"  # files that `write_atomically` leaves if its process is killed


LARGEST = 2**31  # bytes of a file that is read as a whole; predictions of a million questions take a third of it


def read_bytes(file: str | Path, largest: int = LARGEST) -> bytes:
    """Return the content of a regular file. Raise OSError also for a pipe, which would block, and for a device.

    largest: bytes; a larger file raises OSError.
    """
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file, but a pipe, socket or device", str(file))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes; at most {largest:,} are read", str(file))
        return handle.read()


def check_regular(file: str | Path) -> None:
    """Raise OSError unless `file` is regular: a library that opens a pipe or a device could read it for ever."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, pipe, socket or device", str(file))


def to_json(data: Any) -> str:
    """Return `data` as indented JSON. Raise ValueError for a nan, which other JSON readers refuse."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and rename it, so that no reader sees a part of it. Raise OSError if that fails."""
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


def expand_path(setting: str, value: str | Path) -> Path:
    """Return the path that a setting names, with a leading ~ or ~user replaced by the home folder.

    Raises UserError if there is no home folder, and for a path that the system refuses to look up.
    """
    if "\0" in str(value):
        raise UserError(f"{setting}={value}: no file's name holds NUL")
    try:
        path = Path(value).expanduser()
        path.exists()  # raises OSError for a path that the system refuses, else True or False
        return path
    except OSError as error:
        raise UserError(f"{setting}={value}: {error.strerror}") from error
    except RuntimeError as error:
        user = str(value).partition("/")[0]
        raise UserError(
            f"{setting}={value}: {user} stands for no home folder here; ./{user} is a folder of that name"
        ) from error


def check_writable(setting: str, file: Path) -> None:
    """Create the file's folder and raise UserError if the file cannot be written, before its content is computed."""
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
def user_error_on_write(path: Path) -> Iterator[None]:
    """Turn an OSError inside into a UserError that names `path`. Answers already written are kept."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); every answer is kept: once it can be written, the "
            "same command resumes"
        ) from error


def append_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append one JSON line per row, flushed and synced. Raise UserError if that fails; the last line may be cut."""
    if not rows:
        return
    with user_error_on_write(path), open(path, "a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())
