"""Full float32 precision for selection, independent of the precision that the caller chose for the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The libraries that have a precision setting; torch.set_float32_matmul_precision sets both.
PRODUCTS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


class ProductPrecision:
    """`with` block of exact float32 products: one setting for the process, restored when the last thread leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = [library.fp32_precision for library in PRODUCTS]
                for library in PRODUCTS:
                    library.fp32_precision = "ieee"
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, precision in zip(PRODUCTS, self._before, strict=True):
                    library.fp32_precision = precision


_exact = ProductPrecision()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute matrix products of float32 tensors in float32 within the block: no autocast, no TF32, no bfloat16."""
    with _exact, torch.autocast(device.type, enabled=False):
        yield
