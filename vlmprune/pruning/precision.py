"""Full precision for what selects tokens, whatever the caller chose for the model's own products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Each library with a precision of its own; torch.set_float32_matmul_precision sets both.
PRODUCTS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products of float32 tensors in float32: no autocast, no TF32, no bfloat16 inside, until the block ends."""
    before = [library.fp32_precision for library in PRODUCTS]
    try:
        for library in PRODUCTS:
            library.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for library, precision in zip(PRODUCTS, before, strict=True):
            library.fp32_precision = precision
