"""Files that a crash, a kill or a full disk at any moment leaves readable: whole ones, and lines that are appended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError

PARTIAL = ".*.[0-9]*"  # what `write_atomically` left behind when its process was killed


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
    """The path that a setting names, ~ and ~user in front replaced by the home folder. Raises UserError without one."""
    try:
        return Path(value).expanduser()
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
    with told(path), open(path, "a") as handle:
        handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; an incomplete last line is cut off the file, a broken earlier one is a UserError."""
    if not path.exists():
        return []
    with told(path):
        data = path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            os.truncate(path, complete)
    rows = []
    for number, line in enumerate(data[:complete].splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise UserError(f"{path} line {number} is not JSON ({error}): remove the line to resume") from error
        rows.append(row)
    return rows
