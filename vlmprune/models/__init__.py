"""Model families and loading of checkpoints. Unsupported releases of transformers are refused before their import."""

from __future__ import annotations

from importlib.metadata import version

from vlmprune.errors import UserError

OLDEST, NEWEST = (5, 17), (5, 23)  # releases of transformers for which the families were written


def check_transformers(installed: str) -> None:
    """Raise UserError if `installed`, a version such as 5.23.0, is outside OLDEST..NEWEST."""
    major, minor = (int(number) for number in installed.split(".")[:2])
    if not OLDEST <= (major, minor) <= NEWEST:
        allowed = " to ".join(f"{major}.{minor}" for major, minor in (OLDEST, NEWEST))
        raise UserError(f"transformers {installed}: allowed: {allowed}; run pip install 'transformers==5.23.*'")


check_transformers(version("transformers"))
