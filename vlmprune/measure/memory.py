"""Peak memory of a stretch of work, and the bytes that real KV caches hold."""

from __future__ import annotations

import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vlmprune.pruning.adapter import Adapter

SINCE_RESET, SINCE_START = "reset", "process start"


def reset_peak(device: torch.device) -> str:
    """Forget earlier peaks. Returns since when `peak_mb` counts: SINCE_RESET or SINCE_START.

    On Linux writing 5 to /proc/self/clear_refs makes the resident set's peak start again from what is resident now;
    where that is not allowed, and on other systems, a process's peak is of its whole life.
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
    """Peak MB: what torch allocated on the GPU, or the process's resident set on a CPU, weights included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # getrusage would also count what other, dead threads of the process once had
        if line := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8")):
            return int(line[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cache_bytes(cache: Any) -> int:
    """Bytes of keys and values in a KV cache."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.is_initialized)


def cache_bytes_per_token(cache: Any) -> int:
    """What one more token of every row adds to it."""
    layers = [layer for layer in cache.layers if layer.is_initialized]
    return sum((layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[2] for layer in layers)


def decoder_bytes(adapter: Adapter) -> int:
    """Weights that a decode step reads: the decoder's and the head's. Of the embeddings it reads one row a token."""
    model = adapter.model
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    decoder = adapter.language_model.parameters()
    return sum(weight.nbytes for weight in decoder if weight is not embeddings) + head.nbytes
