"""Checks of the engine on a GPU, in full and half precision: `pytest -m gpu`.

VLMPRUNE_TEST_DEVICE=cpu runs the same checks where there is no GPU, so that they are known to work before one is lent.
"""

from __future__ import annotations

import os
from types import ModuleType

import pytest
import torch

DEVICE = torch.device(os.environ.get("VLMPRUNE_TEST_DEVICE", "cuda"))
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    # Convolutions round to 10 bits by default, which decides near ties otherwise than a CPU.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return DEVICE


def placed(family: ModuleType, dtype: torch.dtype, attention: str = "sdpa") -> torch.nn.Module:
    """The family's tiny model on the device."""
    return family.make(attention).to(DEVICE, dtype)


def batch_of(family: ModuleType, dtype: torch.dtype, *args: object) -> dict[str, torch.Tensor]:
    """The family's batch on the device."""
    return {
        name: tensor.to(DEVICE, dtype) if tensor.is_floating_point() else tensor.to(DEVICE)
        for name, tensor in family.batch(*args).items()
    }
