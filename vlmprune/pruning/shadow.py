"""Instance attributes that stand before a module's or model's own methods while a session is open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Shadow:
    """`owner.name` becomes `wrap(the method that was there)` until `remove`, which leaves no trace."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self.owner, self.name = owner, name
        self._own = {key: value for key, value in vars(owner).items() if key == name}  # a user's own, or nothing
        method = getattr(owner, name)
        setattr(owner, name, functools.wraps(method)(wrap(method)))

    def remove(self) -> None:
        """Give the owner back what it had."""
        delattr(self.owner, self.name)
        vars(self.owner).update(self._own)
