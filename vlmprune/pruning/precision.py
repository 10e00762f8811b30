"""Full precision for what selects tokens, whatever the caller chose for the model's own products."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Each library with a precision of its own; torch.set_float32_matmul_precision sets both.
PRODUCTS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


class ProductPrecision:
    """The precision of float32 products: one for the process, and asked for by several threads at a time."""

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
    """Matrix products of float32 tensors in float32: no autocast, no TF32, no bfloat16 inside, until the block ends."""
    with _exact, torch.autocast(device.type, enabled=False):
        yield
