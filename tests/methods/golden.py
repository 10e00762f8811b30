"""Loads the recorded vectors of tests/golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"

MERGED = {"rtol": 2e-4, "atol": 2e-4}  # merged tokens are sums, whose order of summation is free


class Vectors(dict[str, Tensor]):
    """The arrays of one file by name, integers as int64 and float16 as float32."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as arrays:
            super().__init__({key: _tensor(arrays[key]) for key in arrays.files})

    def budgets(self, prefix: str) -> list[str]:
        """Ends of the names that start with `prefix`: "b1/keep_T" -> ["432", "288", ...]; never none."""
        found = [key.removeprefix(prefix) for key in self if key.startswith(prefix)]
        assert found, f"no vector is called {prefix}..."
        return found


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu":
        array = array.astype(np.int64)
    return torch.from_numpy(array)


def heads(x: Tensor, count: int) -> Tensor:
    """A full-width projection [B, L, C] as the signal it comes from, [1 layer, B, H, L, C/H]."""
    return x.unflatten(2, (count, -1)).transpose(1, 2).unsqueeze(0)
