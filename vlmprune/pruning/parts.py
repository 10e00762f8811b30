"""Which parts of a method act on a model."""

from __future__ import annotations

from vlmprune.methods.base import Method, Tower

LARGEST = 1_000_000  # visual tokens; more than any image has


def acting_parts(method: Method, tower: Tower) -> tuple[Method, ...]:
    """The parts of `method` that the engine runs on this tower; none where everything is kept.

    Where images differ in size, or several tiles share out one number, only what keeps everything of the largest image
    is left out.
    """
    n = tower.grid[0] * tower.grid[1]
    parts = method.parts(n)
    shared = method.stage == "composed" and method.keep is not None and parts[0].stage == "sequence"
    if tower.grid_varies or shared:
        n, parts = LARGEST, method.parts(LARGEST)
    return tuple(part for part in parts if part.stage != "none" and not part.keeps_all(n))
