"""A command that refuses, called as `vlmprune` is but in this process."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from vlmprune import cli


def refusal(*arguments: str) -> str:
    """Return what a command that ends with code 2 prints last, less `vlmprune: `; nothing goes to stdout."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.main(list(arguments))
    _, told, line = f"\n{err.getvalue()}".rpartition("\nvlmprune: ")
    assert told and (code, out.getvalue()) == (2, ""), (code, out.getvalue(), err.getvalue())
    return line.removesuffix("\n")
