"""Identity of a run: hashes of all that can change an answer, and of nothing else."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from vlmprune.hashing import data_hash
from vlmprune.methods.base import Method
from vlmprune.source_code import canonical_code


def code_identity(cls: type) -> str:
    """Return a hash of the code of `cls`, its bases and the definitions of the project that they use.

    Another constant, operator, default or statement is another identity. Docstrings, comments, type hints, the texts of
    errors, and the names and files of definitions do not count, nor does the Python version (see `canonical_code`).
    """
    loaded: Any = cls  # mypy takes a dataclass for unhashable, as its objects are
    return _code_hash(loaded)


@lru_cache(maxsize=256)  # every job of a sweep asks, and the code of a loaded class does not change
def _code_hash(cls: Any) -> str:
    return data_hash(canonical_code(cls))


def method_identity(method: Method) -> dict[str, Any]:
    """Return a method's settings and code, and those of the methods that it is composed of.

    The name of a CLIP that it reads the question with is left out: the identity of a run has that CLIP's content.
    """
    settings = dict(vars(method))
    if "text_relevance" in method.needs:
        settings.pop("clip", None)
    for name, value in settings.items():
        if isinstance(value, Method):
            settings[name] = method_identity(value)
    return {"method": settings, "method_code": code_identity(type(method))}
