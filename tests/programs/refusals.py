"""Refusals that the engine is allowed, each with its programs: anything else is a fault."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.programs.program import Program, acts_before
from vlmprune.errors import UserError

ALLOWED = (UserError, NotImplementedError, RuntimeError)


def inside(program: Program) -> bool:
    return not acts_before(program.method)


def has_no_word(program: Program) -> bool:
    """True if a prompt may have no token left, where the mask hides one of its words."""
    every = [*program.prompts, *([program.before] if program.before else [])]
    return any(sum(piece for piece in prompt if isinstance(piece, int)) <= program.hole for prompt in every)


def keeps_all(program: Program) -> bool:
    """True if the session leaves the model alone."""
    return program.method == "none" or program.settings.get("ratio") == 0


REFUSALS: list[tuple[str, Callable[[Program], bool]]] = [
    (r"^use_cache=False inside the decoder", inside),
    (r"^cache_implementation='static' inside the decoder", inside),
    (r"^continuing a filled cache with a method inside", inside),
    (r"left of|no token", has_no_word),
    (r"cache", lambda p: bool(p.rows)),
    # The bare Qwen's own: it goes on with the positions of the rows that its last prompt had.
    (
        r"^(Sizes of tensors|The size of tensor a .*) must match",
        lambda p: p.family.startswith("qwen") and bool(p.rows) and keeps_all(p),
    ),
    (r"budget=average: .* cannot be reached", lambda p: p.settings.get("budget") == "average"),
]


def is_expected(error: Exception, program: Program) -> bool:
    """True if a program may be refused with this error once its session is open."""
    text = str(error)
    if not isinstance(error, ALLOWED) or "\n" in text:
        return False
    return any(re.search(pattern, text) and applies(program) for pattern, applies in REFUSALS)
