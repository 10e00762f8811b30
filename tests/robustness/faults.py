"""A disk on which writing fails, or the process dies, at any chosen write."""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

WRITING = set("wax+")


class Disk:
    """Everything that changes a file below `folder` goes through here; use as a context manager.

    From write number `full_at` (from 0) on each one does `fault`: by default it fails, as on a full disk. points: what
    was written before that and at it, as 'operation file'; what a library writes in pieces counts once.
    """

    def __init__(self, folder: Path, full_at: int | None = None, fault: Callable[[], None] | None = None) -> None:
        self.folder, self.full_at, self.fault = str(folder), full_at, fault or no_space
        self.points: list[str] = []
        self._patches = ExitStack()

    def __enter__(self) -> Disk:
        patches = [(module, "open", self._open(builtins.open)) for module in (builtins, io)]  # pathlib's is io's
        patches += [(os, name, self._operation(name, getattr(os, name))) for name in ("mkdir", "replace", "truncate")]
        for module, name, function in patches:
            self._patches.enter_context(patch.object(module, name, function))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def touch(self, operation: str, path: object) -> bool:
        """Note a write. Returns whether it has to fail."""
        if not os.fspath(path).startswith(self.folder):  # type: ignore[call-overload]
            return False
        name = re.sub(r"^\.(.*)\.\d+$", r"\1", Path(os.fspath(path)).name)  # type: ignore[call-overload]
        point = f"{operation} {name}"
        if self.full_at is not None and len(self.points) > self.full_at:
            return True
        if self.points[-1:] != [point]:
            self.points.append(point)
        return self.full_at is not None and len(self.points) > self.full_at

    def _open(self, opened: Callable[..., Any]) -> Callable[..., Any]:
        def open_(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not WRITING & set(mode) or isinstance(file, int):
                return opened(file, mode, *rest, **options)
            if self.touch("open", file):
                self.fault()
            inner = opened(file, mode, *rest, **options)
            return Written(inner, self, file) if os.fspath(file).startswith(self.folder) else inner

        return open_

    def _operation(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(path: Any, *rest: Any, **options: Any) -> Any:
            if self.touch(name, path):
                self.fault()
            return operation(path, *rest, **options)

        return operate


class Written:
    """A file whose write() may fail after half of the data, as a real one does."""

    def __init__(self, inner: Any, disk: Disk, path: object) -> None:
        self._inner, self._disk, self._path = inner, disk, path

    def write(self, data: Any) -> int:
        if not self._disk.touch("write", self._path):
            return self._inner.write(data)
        self._inner.write(data[: len(data) // 2])
        self._inner.flush()
        self._disk.fault()
        raise AssertionError("a fault returned")

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def no_space() -> None:
    """Raise the error of a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
