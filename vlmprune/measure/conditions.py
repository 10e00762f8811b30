"""Conditions of a timing: device and its clocks, number format, attention kernel, threads."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import torch

CLOCKS = ("sm", "mem", "max.sm", "max.mem")  # MHz: the current clocks, and the largest that the GPU allows


def conditions(model: Any) -> dict[str, Any]:
    """Return the conditions as plain data. Call right after the timed work: the clocks of an idle GPU fall.

    clocks_mhz: None on a CPU, and where nvidia-smi gives none. threads: of torch on the CPU.
    """
    device = model.device
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "threads": torch.get_num_threads(),
        "clocks_mhz": gpu_clocks(device),
    }


def gpu_clocks(device: torch.device) -> dict[str, int] | None:
    """Return the clocks of a GPU in MHz as nvidia-smi prints them; None on a CPU or if it fails."""
    if device.type != "cuda":
        return None
    # By its id: nvidia-smi counts all GPUs of the machine, torch those in CUDA_VISIBLE_DEVICES.
    gpu = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = f"--query-gpu={','.join(f'clocks.{clock}' for clock in CLOCKS)}"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    values = done.stdout.strip().split(", ")
    return {clock: int(value) for clock, value in zip(CLOCKS, values, strict=False) if value.isdigit()} or None
