"""Peak memory of a run and the bytes that real KV caches hold."""

from __future__ import annotations

import resource
from typing import Any

import torch


def reset_peak(device: torch.device) -> None:
    """Forget earlier peaks. Only a GPU's can be reset; a process's peak on the CPU is of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device) -> float:
    """Peak MB: allocated on the GPU since `reset_peak`, or the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cache_bytes(cache: Any) -> int:
    """Bytes of keys and values in a DynamicCache."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.is_initialized)
