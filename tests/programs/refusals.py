"""What the engine may refuse, and of which programs: anything else is a fault."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.programs.program import Program, acts_before
from vlmprune.errors import UserError

ALLOWED = (UserError, NotImplementedError, RuntimeError)


def inside(program: Program) -> bool:
    return not acts_before(program.method)


REFUSALS: list[tuple[str, Callable[[Program], bool]]] = [
    (r"^use_cache=False inside the decoder", inside),
    (r"^cache_implementation='static' inside the decoder", inside),
    (r"^reusing a cache for a second prompt with a method inside the decoder", inside),
    (r"budget=average: .* cannot be reached", lambda p: p.settings.get("budget") == "average"),
]


def is_expected(error: Exception, program: Program) -> bool:
    """Whether a program may be refused with this error once its session is open."""
    text = str(error)
    if not isinstance(error, ALLOWED) or "\n" in text:
        return False
    return any(re.search(pattern, text) and applies(program) for pattern, applies in REFUSALS)
