"""Environment of a run, recorded beside every result: versions, device, checkpoint and data."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vlmprune", "torch", "transformers", "tokenizers", "datasets", "numpy", "pillow")
EXTRAS = ("accelerate", "av", "bitsandbytes", "flash-attn")


def describe_environment(checkpoint: str, data: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the plain data of environment.json, which has no field that may hold a key or an access token."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
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
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
