"""Messages between two processes: lines of JSON over a socket."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any


class Line:
    """One end of a connection. A message is its kind and plain data."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r", encoding="ascii", newline="\n")

    def send(self, kind: str, content: Any = None) -> None:
        """Send a message. Raise OSError if the other process is gone."""
        self._connection.sendall((json.dumps([kind, content]) + "\n").encode("ascii"))

    def receive(self) -> tuple[str, Any] | None:
        """Wait for the next message and return (kind, content); None once the other process is gone."""
        try:
            line = self._lines.readline()
        except OSError:
            return None
        if not line.endswith("\n"):  # closed, or the process died while it sent a message
            return None
        kind, content = json.loads(line)
        return kind, content

    def close(self) -> None:
        """Close both directions: pending and later `receive` calls return None here and in the other process."""
        with suppress(OSError):  # the other side closed it first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
