"""The environment of a run (versions, device, checkpoint, data) and the conditions of a measured time."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vlmprune.machine import openmp_settings

PACKAGES = ("vlmprune", "torch", "transformers", "tokenizers", "datasets", "numpy", "pillow")
EXTRAS = ("accelerate", "av", "bitsandbytes", "flash-attn")


def describe_environment(checkpoint: str, data: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the plain data of environment.json, which has no field that may hold a key or an access token."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "openmp": openmp_settings(),
        "cpus": os.cpu_count(),
        "dtype": str(dtype).removeprefix("torch."),
        "checkpoint": checkpoint,
        "data": data,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "git": git_commit(),
    }


def versions() -> dict[str, str]:
    """Return the versions of installed packages that a result may depend on; `vlmprune speed` runs without datasets."""
    found = {}
    for package in (*PACKAGES, *EXTRAS):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def git_commit() -> str | None:
    """Return the commit of the running vlmprune checkout, with '+' if it has changes; None for an installed wheel."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")


CLOCKS = ("sm", "mem", "max.sm", "max.mem")  # MHz: the current clocks, and the largest that the GPU allows


def describe_conditions(model: Any) -> dict[str, Any]:
    """Return the conditions as plain data. Call right after the timed work: the clocks of an idle GPU fall.

    clocks_mhz: None on a CPU, and where nvidia-smi gives none. threads: of torch on the CPU. openmp: how they wait.
    """
    device = model.device
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "threads": torch.get_num_threads(),
        "openmp": openmp_settings(),
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
