"""What a time was measured under: device and its clocks, number format, attention kernel, threads."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import torch

CLOCKS = ("sm", "mem", "max.sm", "max.mem")  # MHz: now, and the most that the GPU may run at


def conditions(model: Any) -> dict[str, Any]:
    """Plain data. Ask right after the work that was timed: a GPU's clocks fall when it idles.

    clocks_mhz: null on a CPU, and where the driver does not tell. threads: of torch on the CPU.
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
    """Clocks of a GPU as nvidia-smi reads them."""
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
