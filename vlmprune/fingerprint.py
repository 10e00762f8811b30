"""What makes two runs the same run: a hash over all that can change an answer."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from types import ModuleType
from typing import Any

from vlmprune.methods.base import Method

# What carries a selection out is not a method's own code: tests guard it, and a change of it is a new version.
ENGINE = tuple(f"vlmprune.{part}" for part in ("pruning", "models", "measure", "errors", "registry", "schema"))


def sha256(data: Any) -> str:
    """Hex digest of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def code_identity(cls: type) -> str:
    """Hash of the modules that `cls`, its bases and the helpers they call are written in.

    Comments and layout do not count, so that tidying a file does not throw results away; docstrings do.
    """
    package = cls.__module__.partition(".")[0]
    open_modules = [sys.modules[base.__module__] for base in cls.__mro__ if base is not object]
    found: dict[str, ModuleType] = {}
    while open_modules:
        module = open_modules.pop()
        own = module.__name__.partition(".")[0] in (package, "vlmprune") and not module.__name__.startswith(ENGINE)
        if own and module.__name__ not in found:
            found[module.__name__] = module
            names = {getattr(value, "__module__", None) or "" for value in vars(module).values()}
            open_modules += [sys.modules[name] for name in names if name in sys.modules]
    return sha256({name: ast.dump(ast.parse(inspect.getsource(module))) for name, module in sorted(found.items())})


def method_identity(method: Method) -> dict[str, Any]:
    """A method's class, settings and code: an edited method is another run."""
    cls, settings = type(method), dict(vars(method))
    for name, value in settings.items():
        if isinstance(value, Method):  # a part of a composed method
            settings[name] = method_identity(value)
    return {"method": {"class": cls.__qualname__, **settings}, "method_code": code_identity(cls)}
