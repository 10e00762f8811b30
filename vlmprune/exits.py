"""How a process ended."""

from __future__ import annotations

import signal


def describe_exit(code: int) -> str:
    """'killed by SIGKILL, as when memory runs out', 'exit code 1', from a subprocess's return code."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
