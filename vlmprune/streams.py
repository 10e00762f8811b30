"""stdout and stderr that never end a command: what a full disk, a closed pipe or terminal does not take is left out.

Characters that the terminal does not have are written as escapes.
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
    """A file descriptor to which writing always succeeds. lost: why nothing is written any more, None while it is."""

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
            except BlockingIOError:  # a pipe set so, whose reader is slow
                select.select([], [self.number], [])
            except OSError as error:
                self.lost = error
        return len(data)


def open_streams() -> None:
    """Put Outlets under sys.stdout and sys.stderr, unless something else has taken their place already."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get the number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _over(number, stream))


def _over(number: int, stream: TextIO | None) -> TextIO:
    """A text stream over an Outlet. stream: the interpreter's, None where the descriptor was closed at its start."""
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
    """Why not all of what was printed to a stream of `open_streams` was written; None where it was."""
    stream.flush()
    outlet = getattr(getattr(stream, "buffer", None), "raw", None)
    return outlet.lost if isinstance(outlet, Outlet) else None
