"""The run directory while several processes answer: process 0 writes for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vlmprune.distributed.wire import Line
from vlmprune.errors import UserError
from vlmprune.records import RunDirectory, kept_of

Rows = list[dict[str, Any]]


class Gathered(RunDirectory):
    """Process 0's. Rows may come from several threads. advance: told how many samples of other processes are done."""

    def __init__(self, directory: RunDirectory, advance: Callable[[int], None]) -> None:
        super().__init__(directory.path, directory.fingerprint)
        self.prompt_template, self.first_sample = directory.prompt_template, directory.first_sample
        self.advance = advance
        self._one_at_a_time = threading.Lock()
        self._failed: UserError | None = None
        self._kept = {kept_of(row) for row in directory.kept()}

    def append(self, predictions: Rows, kept: Rows) -> None:
        with self._turn():
            new = [row for row in kept if kept_of(row) not in self._kept]  # two may have shared an image
            self._kept.update(map(kept_of, new))
            super().append(predictions, new)

    def append_bad(self, rows: Rows) -> None:
        with self._turn():
            super().append_bad(rows)

    def receive(self, kind: str, content: Any) -> None:
        """Write what another process sent."""
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
        """One thread at a time, and none after a line that may be cut short: nothing may stand behind that."""
        with self._one_at_a_time:
            if self._failed is not None:
                raise self._failed
            try:
                yield
            except UserError as error:
                self._failed = error
                raise


class Sent(RunDirectory):
    """Any other process's: nothing is read or written there, and rows are sent to process 0."""

    def __init__(self, directory: RunDirectory, line: Line) -> None:
        super().__init__(directory.path, directory.fingerprint)
        self._line = line

    def kept(self) -> Rows:
        return []  # process 0 knows

    def append(self, predictions: Rows, kept: Rows) -> None:
        self._line.send("answers", [predictions, kept])

    def append_bad(self, rows: Rows) -> None:
        if rows:
            self._line.send("bad", rows)
