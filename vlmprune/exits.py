"""Description of a process's exit."""

from __future__ import annotations

import signal


def describe_exit(code: int) -> str:
    """Return text for a subprocess's return code: 'exit code 1', 'killed by SIGKILL, as when memory runs out'."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
