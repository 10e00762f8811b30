"""The one exception that means "the user's input cannot work": shown as one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the value, what is allowed and the nearest match."""


def choose(value: str, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `allowed`, else raise a UserError that says what is and what is nearest."""
    options = sorted(allowed)
    if value in options:
        return value
    raise UserError(f"{what} '{value}' does not exist{nearest(value, options)}; allowed: {', '.join(options)}")


def nearest(value: str, options: Iterable[str]) -> str:
    """' (did you mean X?)' where something in `options` is close to `value`, else ''."""
    close = difflib.get_close_matches(value, list(options), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
