"""Checks of the tensors that a method returns: types, shapes and number formats, without a host sync.

Checking values needs a host sync on a GPU; `index_faults` leaves its result on the device, so that a caller syncs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlmprune.methods.merging import Matching

LONGEST = 60  # characters of a value in a message
FLOAT = "floats"
INTEGER = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Mismatch(ValueError):
    """Value from a method that its base class does not allow; the message names the value and what is expected."""

    def __init__(self, where: str, came: Any, expected: str) -> None:
        super().__init__(f"{where}: {came}, expected {expected}")


def describe_value(value: Any) -> str:
    """Return a text with the type and shape of a tensor or array, or the type and value of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}"
    text = repr(value)
    return text if value is None else f"{type(value).__name__} {text[:LONGEST]}{'...' * (len(text) > LONGEST)}"


def check_tensor(
    where: str, value: Any, dims: str, shape: Sequence[int], kind: str | tuple[torch.dtype, ...], instead: str = ""
) -> None:
    """Raise Mismatch unless `value` is a dense tensor of this shape with entries on a device, of the given kind.

    dims: the shape in letters, "[B, N]". kind: `floats`, or the allowed number formats. instead: name of the allowed
    formats in the message.
    """
    if not isinstance(value, Tensor):
        raise Mismatch(where, describe_value(value), f"a tensor {dims} = {tuple(shape)}")
    if value.layout != torch.strided or value.is_meta:
        what = "on meta, without values" if value.is_meta else f"sparse ({str(value.layout).removeprefix('torch.')})"
        raise Mismatch(where, f"a tensor {what}", f"a dense one {dims} = {tuple(shape)}")
    if value.shape != torch.Size(shape):
        raise Mismatch(where, f"shape {tuple(value.shape)}", f"{dims} = {tuple(shape)}")
    fits = value.is_floating_point() if kind == FLOAT else value.dtype in kind
    if not fits:
        formats = kind if kind == FLOAT else ", ".join(str(each).removeprefix("torch.") for each in kind)
        raise Mismatch(where, str(value.dtype).removeprefix("torch."), instead or str(formats))


def check_scores(method: Any, score: Any, dims: str, shape: Sequence[int]) -> Tensor:
    """Return `score` as floats; integers and booleans become float64. Raise Mismatch for others, complex included."""
    where = f"{type(method).__name__}.score"
    real = isinstance(score, Tensor) and not score.is_complex()
    kind: str | tuple[torch.dtype, ...] = FLOAT if not real or score.is_floating_point() else (score.dtype,)
    check_tensor(where, score, dims, shape, kind, "real numbers")
    return score if score.is_floating_point() else score.double()


def index_faults(indices: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return two bool [B]: rows of indices [B, k] with an index outside 0 to n - 1, and rows with an index twice."""
    outside = ((indices < 0) | (indices >= n)).any(dim=1)
    ordered = indices.sort(dim=1).values
    return outside, (ordered[:, 1:] == ordered[:, :-1]).any(dim=1)


def check_indices(where: str, indices: Tensor, n: int) -> None:
    """Raise Mismatch unless every row of indices [B, k] has distinct numbers from 0 to n - 1. One host sync."""
    outside, twice = torch.stack([fault.any() for fault in index_faults(indices, n)]).tolist()
    if outside:
        wrong = indices[(indices < 0) | (indices >= n)][0].item()
        raise Mismatch(where, f"the index {wrong}", f"0 to {n - 1}: images have {n} tokens here")
    if twice:
        raise Mismatch(where, "an index that is there twice in one row", "each at most once")


def check_matching(where: str, matching: Any, tiles: int, length: int, r: int) -> None:
    """Raise Mismatch unless `matching` merges r of `length` rows, each once in stay or gone. Two host syncs."""
    if not isinstance(matching, Matching):
        raise Mismatch(where, describe_value(matching), "a Matching")
    for name, count in (("stay", length - r), ("gone", r), ("into", r)):
        check_tensor(f"{where}, {name}", getattr(matching, name), "[B, rows]", (tiles, count), (torch.int64,))
    check_indices(f"{where}, stay and gone together", torch.cat([matching.stay, matching.gone], dim=1), length)
    if bool(((matching.into < 0) | (matching.into >= length - r)).any()):
        raise Mismatch(f"{where}, into", "an output row that there is not", f"0 to {length - r - 1}")
