"""What the engine may refuse, and of which programs: anything else is a fault."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.programs.program import Program, acts_before
from vlmprune.errors import UserError

ALLOWED = (UserError, NotImplementedError, RuntimeError)


def inside(program: Program) -> bool:
    return not acts_before(program.method)


def has_no_word(program: Program) -> bool:
    """Whether a prompt may have no token left."""
    every = [*program.prompts, *([program.before] if program.before else [])]
    return any(not any(isinstance(piece, int) for piece in prompt) for prompt in every)


REFUSALS: list[tuple[str, Callable[[Program], bool]]] = [
    (r"^use_cache=False inside the decoder", inside),
    (r"^cache_implementation='static' inside the decoder", inside),
    (r"^(reusing a cache for a second prompt|going on from a filled cache) with a method inside", inside),
    (r"left of|no token", has_no_word),
    (r"cache", lambda p: bool(p.rows)),
    (r"^images in a later turn", lambda p: len(p.more) > 1),
    (r"budget=average: .* cannot be reached", lambda p: p.settings.get("budget") == "average"),
]


def is_expected(error: Exception, program: Program) -> bool:
    """Whether a program may be refused with this error once its session is open."""
    text = str(error)
    if not isinstance(error, ALLOWED) or "\n" in text:
        return False
    return any(re.search(pattern, text) and applies(program) for pattern, applies in REFUSALS)
