"""Peak memory since a reset, and the bytes that a decode step adds to KV caches and reads of the weights."""

from __future__ import annotations

import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vlmprune.engine.adapter import ModelInterface

SINCE_RESET, SINCE_START = "reset", "process start"


def reset_peak(device: torch.device) -> str:
    """Reset the peak, and return the start of the time that `peak_mb` covers: SINCE_RESET or SINCE_START.

    On Linux writing 5 to /proc/self/clear_refs resets the peak of the resident set to its current size; where that is
    not allowed, and on other systems, the peak covers the whole life of the process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return SINCE_RESET
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return SINCE_START
    return SINCE_RESET


def peak_mb(device: torch.device) -> float:
    """Return the peak in MB, weights included: torch's allocations on a GPU, or the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # getrusage would also count the memory of threads that have ended
        if line := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8")):
            return int(line[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cache_bytes_per_token(cache: Any) -> int:
    """Return the bytes that one more token of every row adds to a KV cache."""
    layers = [layer for layer in cache.layers if layer.is_initialized]
    return sum((layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[2] for layer in layers)


def decoder_bytes(adapter: ModelInterface) -> int:
    """Return the bytes of the weights that a decode step reads: the decoder and the head, without the embeddings."""
    model = adapter.model
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    decoder = adapter.language_model.parameters()
    return sum(weight.nbytes for weight in decoder if weight is not embeddings) + head.nbytes
