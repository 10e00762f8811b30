"""Loading of a checkpoint with from_pretrained, from safetensors only, and the checks of device and precision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from vlmprune.config.settings import ModelConfig
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.errors import UserError
from vlmprune.models.base import Adapter, adapt, family_module
from vlmprune.models.checkpoint import find_checkpoint, load_error, random_model
from vlmprune.models.outline import build_weightless
from vlmprune.models.preprocessing import Preprocessor
from vlmprune.models.processor import Checkpoint, is_of_shapes
from vlmprune.models.weights import check_memory, check_sizes

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


__all__ = ["Checkpoint", "LoadedModel", "check_hardware", "find_checkpoint", "load", "resolve_device", "resolve_dtype"]


@dataclass
class LoadedModel:
    """A loaded model with its adapter and preprocessor."""

    model: Any
    adapter: Adapter
    preprocessor: Preprocessor
    device: torch.device
    features: EncodingStore | None = None  # of its vision encoder's results


def load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    """Return the loaded model and preprocessor. Raises UserError for damage."""
    known = build_weightless(checkpoint, config)  # first, since it takes a second, and the weights take minutes
    processors, empty = known.preprocessor.processors, known.adapter.model
    check_sizes(checkpoint, empty)
    if config.device_map is None and config.quantization is None:
        check_memory(checkpoint.source, empty, dtype, device)
    if checkpoint.random:
        model = random_model(checkpoint.config, config.attention, dtype, device)
    else:
        model = read_weights(checkpoint, config, dtype, device)
    model.eval()
    adapter = adapt(model, config.options, "model.")
    family = family_module(checkpoint.config.model_type)
    return LoadedModel(model, adapter, family.Inputs(processors, adapter, config), model.device)


def read_weights(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the model with the checkpoint's weights, on `device` or as `device_map` says. Raises UserError."""
    source = checkpoint.source
    placed: dict[str, Any] = {}
    if config.device_map is not None:
        placed["device_map"] = config.device_map
    elif config.quantization is not None:  # a quantized model cannot be moved
        placed["device_map"] = {"": device}
    try:
        pair: Any = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=checkpoint.revision,
            dtype=dtype,
            attn_implementation=config.attention,
            quantization_config=quantizer(config.quantization, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **placed,
        )
    except Exception as error:  # transformers raises many types for damaged files
        if is_of_shapes(error):
            raise UserError(f"model.path={source}: its weights have other shapes than its config.json says") from error
        raise UserError(load_error(source, error, checkpoint.revision)) from error
    model, loading_info = pair
    if loading_info["missing_keys"]:  # transformers would fill them with random numbers
        missing = sorted(loading_info["missing_keys"])
        raise UserError(f"model.path={source}: {len(missing)} weights are missing, {missing[0]} among them")
    if beyond := first_unused_weight(loading_info["unexpected_keys"], model):
        raise UserError(
            f"model.path={source}: its weights have layers or biases that its config.json leaves out, {beyond} among "
            "them; correct num_hidden_layers, depth or the fields of biases"
        )
    return model if placed else model.to(device)


def first_unused_weight(unexpected: Any, model: Any) -> str:
    """Return the first name in `unexpected` of a weight of a missing layer, or of a missing bias; "" for none.

    unexpected: all weights that transformers did not load, which may also be harmless buffers of older versions.
    """
    known = {re.sub(r"\.\d+\.", ".N.", name) for name in model.state_dict()}
    alike = (re.sub(r"\.\d+\.", ".N.", name) for name in unexpected)
    pairs = zip(unexpected, alike, strict=True)
    return min((name for name, like in pairs if {like, re.sub(r"\.bias$", ".weight", like)} & known), default="")
