"""Instance attributes that replace methods of a module or model while a session is open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn


def refuse_copy(*_: object) -> NoReturn:
    """Raise RuntimeError; the `__deepcopy__` and `__reduce_ex__` of all objects that a session puts on a model.

    A copy of the model would copy them too, and would stay pruned after the session.
    """
    raise RuntimeError("a model cannot be copied or pickled inside `with prune(...)`: do so before the block or after")


class Shadow:
    """Replacement of `owner.name` by `wrap(the original method)`, until `remove` restores it."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        method = getattr(owner, name)
        functools.update_wrapper(self, method)
        self._owner, self._name, self._method, self._call = owner, name, method, wrap(method)
        self._own = {key: value for key, value in vars(owner).items() if key == name}  # an attribute set before, if any
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def remove(self) -> None:
        """Restore the owner's method. A shallow copy of the owner keeps this object, which then calls the original."""
        self._call = self._method
        delattr(self._owner, self._name)
        vars(self._owner).update(self._own)

    __deepcopy__ = __reduce_ex__ = refuse_copy
