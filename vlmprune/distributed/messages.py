"""Messages between the processes of a run, and the run directory that process 0 writes for all of them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory, kept_key


class Connection:
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


Rows = list[dict[str, Any]]


class MergedRunDirectory(RunDirectory):
    """The run directory in process 0; several threads may append to it.

    advance: called with the number of samples that another process has finished.
    """

    def __init__(self, directory: RunDirectory, advance: Callable[[int], None]) -> None:
        super().__init__(directory.path, directory.fingerprint)
        self.prompt_template, self.first_sample = directory.prompt_template, directory.first_sample
        self.advance = advance
        self._one_at_a_time = threading.Lock()
        self._failed: UserError | None = None
        self._kept = {kept_key(row) for row in directory.kept()}

    def append(self, predictions: Rows, kept: Rows) -> None:
        with self._turn():
            new = [row for row in kept if kept_key(row) not in self._kept]  # two processes may have had the same image
            self._kept.update(map(kept_key, new))
            super().append(predictions, new)

    def append_bad(self, rows: Rows) -> None:
        with self._turn():
            super().append_bad(rows)

    def receive(self, kind: str, content: Any) -> None:
        """Write the rows of one message of another process: kind 'answers' or 'bad'."""
        if kind == "answers":
            self.append(*content)
            self.advance(len(content[0]))
        elif kind == "bad":
            self.append_bad(content)
            self.advance(len(content))
        else:
            raise ValueError(f"a message of kind {kind!r}")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one thread write at a time, and none after a failed write, whose last line may be incomplete."""
        with self._one_at_a_time:
            if self._failed is not None:
                raise self._failed
            try:
                yield
            except UserError as error:
                self._failed = error
                raise


class RemoteRunDirectory(RunDirectory):
    """The run directory in every other process: it reads and writes no files, and sends all rows to process 0."""

    def __init__(self, directory: RunDirectory, connection: Connection) -> None:
        super().__init__(directory.path, directory.fingerprint)
        self._connection = connection

    def kept(self) -> Rows:
        return []  # process 0 drops duplicates

    def append(self, predictions: Rows, kept: Rows) -> None:
        self._connection.send("answers", [predictions, kept])

    def append_bad(self, rows: Rows) -> None:
        if rows:
            self._connection.send("bad", rows)
