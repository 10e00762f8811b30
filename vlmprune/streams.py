"""stdout and stderr whose errors do not end a command: output to a full disk or a closed pipe or terminal is dropped.

Characters that the terminal's encoding lacks are written as escapes.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO


class Outlet(io.RawIOBase):
    """A file descriptor to which writing always succeeds. lost: the error after which output is dropped, or None."""

    def __init__(self, number: int, lost: OSError | None = None) -> None:
        super().__init__()
        self.number, self.lost = number, lost

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return self.lost is None and os.isatty(self.number)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = memoryview(data)
        while self.lost is None and left:
            try:
                left = left[os.write(self.number, left) :]
            except BlockingIOError:  # a non-blocking pipe whose reader is slow
                select.select([], [self.number], [])
            except OSError as error:
                self.lost = error
        return len(data)


def open_streams() -> None:
    """Replace sys.stdout and sys.stderr by streams over Outlets, unless they were replaced before."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next opened file would get this number, and the printed text
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _over(number, stream))


def _over(number: int, stream: TextIO | None) -> TextIO:
    """Return a text stream over an Outlet. stream: the interpreter's, None if the descriptor was closed at start."""
    if stream is None:
        outlet, encoding = Outlet(number, OSError(errno.EBADF, "it is closed")), "utf-8"
    else:
        with suppress(OSError):
            stream.flush()
        outlet, encoding = Outlet(number), stream.encoding
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),  # type: ignore[type-var]
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or outlet.isatty(),
    )


def lost(stream: TextIO) -> OSError | None:
    """Return the error for which output to a stream of `open_streams` was dropped; None if all was written."""
    stream.flush()
    outlet = getattr(getattr(stream, "buffer", None), "raw", None)
    return outlet.lost if isinstance(outlet, Outlet) else None
