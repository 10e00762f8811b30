"""The parts of a method that act on a model."""

from __future__ import annotations

from vlmprune.methods.base import Method, Tower

LARGEST = 1_000_000  # visual tokens; more than any image has


def acting_parts(method: Method, tower: Tower) -> tuple[Method, ...]:
    """Return the parts of `method` that the engine runs on this vision encoder; none if every token is kept.

    If images differ in size, or several tiles share one number of tokens, a part is left out only if it keeps all of
    LARGEST tokens.
    """
    n = tower.grid[0] * tower.grid[1]
    parts = method.parts(n)
    shared = method.stage == "composed" and method.keep is not None and parts[0].stage == "sequence"
    if tower.grid_varies or shared:
        n, parts = LARGEST, method.parts(LARGEST)
    return tuple(part for part in parts if part.stage != "none" and not part.keeps_all(n))
