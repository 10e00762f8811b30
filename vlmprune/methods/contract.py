"""What a method's tensors must be, checked where they enter: types, shapes and number formats cost no host sync.

Values do, on a GPU: indices and rows are looked at by `index_faults` and `counts_differ`, which stay on the device.
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
    """A method's class gave something that its base class does not allow: the message says what, and what is due."""

    def __init__(self, where: str, came: Any, expected: str) -> None:
        super().__init__(f"{where}: {came}, expected {expected}")


def described(value: Any) -> str:
    """Type and shape of a tensor or array, type and value of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}"
    text = repr(value)
    return text if value is None else f"{type(value).__name__} {text[:LONGEST]}{'...' * (len(text) > LONGEST)}"


def check_tensor(
    where: str, value: Any, dims: str, shape: Sequence[int], kind: str | tuple[torch.dtype, ...], instead: str = ""
) -> None:
    """Raise Mismatch unless `value` is a dense tensor of this shape with entries on a device, of the given kind.

    dims: the shape in letters, "[B, N]". kind: `floats`, or the number formats. instead: said of other formats.
    """
    if not isinstance(value, Tensor):
        raise Mismatch(where, described(value), f"a tensor {dims} = {tuple(shape)}")
    if value.layout != torch.strided or value.is_meta:
        what = "on meta, without values" if value.is_meta else f"sparse ({str(value.layout).removeprefix('torch.')})"
        raise Mismatch(where, f"a tensor {what}", f"a dense one {dims} = {tuple(shape)}")
    if value.shape != torch.Size(shape):
        raise Mismatch(where, f"shape {tuple(value.shape)}", f"{dims} = {tuple(shape)}")
    fits = value.is_floating_point() if kind == FLOAT else value.dtype in kind
    if not fits:
        formats = kind if kind == FLOAT else ", ".join(str(each).removeprefix("torch.") for each in kind)
        raise Mismatch(where, str(value.dtype).removeprefix("torch."), instead or str(formats))


def as_scores(method: Any, score: Any, dims: str, shape: Sequence[int]) -> Tensor:
    """`score` as floats: integers and true/false are ranked too. Raises Mismatch, also for complex numbers."""
    where = f"{type(method).__name__}.score"
    real = isinstance(score, Tensor) and not score.is_complex()
    kind: str | tuple[torch.dtype, ...] = FLOAT if not real or score.is_floating_point() else (score.dtype,)
    check_tensor(where, score, dims, shape, kind, "real numbers")
    return score if score.is_floating_point() else score.double()


def index_faults(indices: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """bool [B] each: rows of indices [B, k] with one below 0 or not below `n`, and rows with one twice."""
    outside = ((indices < 0) | (indices >= n)).any(dim=1)
    ordered = indices.sort(dim=1).values
    return outside, (ordered[:, 1:] == ordered[:, :-1]).any(dim=1)


def check_indices(where: str, indices: Tensor, n: int) -> None:
    """Raise Mismatch unless every row of indices [B, k] has different numbers of 0 to n - 1. One host sync."""
    outside, twice = torch.stack([fault.any() for fault in index_faults(indices, n)]).tolist()
    if outside:
        wrong = indices[(indices < 0) | (indices >= n)][0].item()
        raise Mismatch(where, f"the index {wrong}", f"0 to {n - 1}: images have {n} tokens here")
    if twice:
        raise Mismatch(where, "an index that is there twice in one row", "each at most once")


def check_matching(where: str, matching: Any, tiles: int, length: int, r: int) -> None:
    """Raise Mismatch unless `matching` merges r of `length` rows away, each row once in stay or gone. One host sync."""
    if not isinstance(matching, Matching):
        raise Mismatch(where, described(matching), "a Matching")
    for name, count in (("stay", length - r), ("gone", r), ("into", r)):
        check_tensor(f"{where}, {name}", getattr(matching, name), "[B, rows]", (tiles, count), (torch.int64,))
    check_indices(f"{where}, stay and gone together", torch.cat([matching.stay, matching.gone], dim=1), length)
    if bool(((matching.into < 0) | (matching.into >= length - r)).any()):
        raise Mismatch(f"{where}, into", "an output row that there is not", f"0 to {length - r - 1}")
