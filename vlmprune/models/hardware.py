"""Device, dtype, attention kernel and quantizer; impossible combinations are refused before weights load."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.checkpoint import Checkpoint

DEVICES = "allowed: auto, cpu, cuda, cuda:N"


def resolve_device(device: str) -> torch.device:
    """Return the device; `auto` is the first GPU, or the CPU without one. Raises UserError if it does not exist."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: {DEVICES}") from error
    if resolved.type not in ("cpu", "cuda"):
        raise UserError(f"device={device}: {DEVICES}")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices; use device=cpu")
    return resolved


def resolve_dtype(dtype: str, checkpoint: Checkpoint, device: torch.device) -> torch.dtype:
    """Return the dtype; `auto` is float32 on a CPU and the checkpoint's dtype, or float16 without one, elsewhere."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    return checkpoint.config.dtype or torch.float16


def check_hardware(model: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
    """Raise UserError for a combination that cannot work, or that needs a package which is not installed."""
    if model.attention == "flash_attention_2":
        where = "model.attention=flash_attention_2"
        if device.type != "cuda" or dtype == torch.float32:
            name = str(dtype).removeprefix("torch.")
            raise UserError(f"{where}: needs a CUDA device and float16 or bfloat16, here {device} and {name}; use sdpa")
        # Without the package transformers would fetch a kernel, compiled code, from the hub.
        _need(where, "flash_attn", "flash-attn")
    if model.quantization is not None:
        where = f"model.quantization={model.quantization}"
        if checkpoint.random:
            raise UserError(f"{where}: random weights are not quantized; use model.quantization=null")
        if getattr(checkpoint.config, "quantization_config", None) is not None:
            raise UserError(f"{where}: {checkpoint.source} is quantized already; use model.quantization=null")
        if device.type != "cuda":  # on a CPU bitsandbytes may fetch compiled code from the hub
            raise UserError(f"{where}: needs a CUDA device; use model.quantization=null")
        _need(where, "bitsandbytes", "bitsandbytes accelerate")
    if model.device_map is not None:
        if checkpoint.random:
            raise UserError(f"model.device_map={model.device_map}: random weights go to one device; set device=")
        _need(f"model.device_map={model.device_map}", "accelerate", "accelerate")


def quantizer(quantization: str | None, dtype: torch.dtype) -> Any:
    """Return transformers' bitsandbytes config for `4bit` (NF4, as QLoRA) or `8bit` (LLM.int8); None for None."""
    if quantization is None:
        return None
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _need(where: str, module: str, packages: str) -> None:
    if find_spec(module) is None:
        raise UserError(f"{where}: {module} is not installed; pip install {packages}")
