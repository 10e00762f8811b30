"""Instance attributes that stand before a module's or model's own methods while a session is open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn


def refuse_copy(*_: object) -> NoReturn:
    """Stand in `__deepcopy__` and `__reduce_ex__` of what a session puts on a model.

    A copy of the model would take it along, and stay pruned for good by a session that knows nothing of it.
    """
    raise RuntimeError("a model cannot be copied or pickled inside `with prune(...)`: do so before the block or after")


class Shadow:
    """`owner.name` becomes `wrap(the method that was there)` until `remove`, which leaves no trace."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        method = getattr(owner, name)
        functools.update_wrapper(self, method)
        self._owner, self._name, self._method, self._call = owner, name, method, wrap(method)
        self._own = {key: value for key, value in vars(owner).items() if key == name}  # a user's own, or nothing
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def remove(self) -> None:
        """Give the owner back what it had; so does a shallow copy of it, which still has the shadow."""
        self._call = self._method
        delattr(self._owner, self._name)
        vars(self._owner).update(self._own)

    __deepcopy__ = __reduce_ex__ = refuse_copy
