"""Calls of a method for its numbers on the host, shares of tokens and stages of layers, with a check of the results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vlmprune.methods.base import Method
from vlmprune.methods.contract import Mismatch
from vlmprune.methods.decoder_base import DecoderStage
from vlmprune.own_code import BrokenContract, call, is_own, refuse


@contextmanager
def broken() -> Iterator[None]:
    """Turn a Mismatch that `methods` raises inside the block into BrokenContract, an error of one line for the user."""
    try:
        yield
    except Mismatch as error:
        raise BrokenContract(str(error)) from error


def ask(method: Method, name: str, *args: Any) -> Any:
    """Call the method's function `name` and return its result. Raises BrokenContract for faults of a user's class."""
    if not is_own(type(method)):
        return getattr(method, name)(*args)
    with broken():
        return call(method, name, *args)


def whole(method: Method, name: str, value: Any, most: int | None = None, about: str = "") -> int:
    """Return `value`, an integer of any library, as an int. Raises BrokenContract if it is not from 0 to `most`."""
    fits = hasattr(type(value), "__index__") and not isinstance(value, bool) and value >= 0
    if not fits or (most is not None and value > most):
        refuse(method, name, value, f"an int, {'0 or more' if most is None else f'0 to {most}'}", about)
    return int(value)


def shares_of(method: Method, units: Sequence[int]) -> list[int]:
    """Return `Method.shares`, checked: the tokens to keep of each unit."""
    shares = ask(method, "shares", units)
    if not is_own(type(method)):
        return shares
    if not isinstance(shares, list | tuple) or len(shares) != len(units):
        refuse(method, "shares", shares, f"a list of {len(units)} ints, one for each of {list(units)}")
    return [whole(method, "shares", k, n, f"{n} tokens") for k, n in zip(shares, units, strict=True)]


def stages_of(method: Any, name: str, depth: int, n: int) -> list[DecoderStage]:
    """Return `DecoderMethod.stages` or `schedule` (given as `name`), checked."""
    stages = ask(method, name, depth, n)
    if not is_own(type(method)):
        return stages
    about = f"depth {depth}, {n} visual tokens"
    if not isinstance(stages, list | tuple) or not stages or not all(isinstance(each, DecoderStage) for each in stages):
        refuse(method, name, stages, "a list of DecoderStage, at least one", about)
    layer, left = 0, math.inf  # a fixed schedule may ask for more than a short prompt has, which keeps all
    for stage in stages:
        if not all(hasattr(type(value), "__index__") for value in (stage.layer, stage.kept, stage.merged)):
            refuse(method, name, stage, "ints", about)
        if not layer < stage.layer < depth:
            refuse(method, name, stage, f"layers that rise, from {layer + 1} to {depth - 1} here", about)
        if stage.kept < 0 or stage.merged < 0 or stage.left > left:
            refuse(method, name, stage, f"0 or more, and never more than before ({left} here)", about)
        layer, left = stage.layer, stage.left
    return [DecoderStage(int(each.layer), int(each.kept), int(each.merged)) for each in stages]
