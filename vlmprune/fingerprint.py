"""What makes two runs the same run: a hash over all that can change an answer."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

from vlmprune.methods.base import Method


def sha256(data: Any) -> str:
    """Hex digest of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def method_identity(method: Method) -> dict[str, Any]:
    """A method's class, settings and source (its bases' too): an edited method is another run."""
    cls = type(method)
    sources = [inspect.getsource(base) for base in cls.__mro__ if issubclass(base, Method)]
    return {"method": {"class": cls.__qualname__, **vars(method)}, "method_source": sha256(sources)}
