"""Loading of a checkpoint with from_pretrained: safetensors only, no remote code, and an unmodified model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.architecture import draw_weights
from vlmprune.models.base import Adapter, adapt, adapter_options, family_module
from vlmprune.models.checkpoint import Checkpoint, explain, find_checkpoint
from vlmprune.models.hardware import check_hardware, quantizer, resolve_device, resolve_dtype
from vlmprune.models.inputs import Preprocessor
from vlmprune.models.outline import outline
from vlmprune.models.parts import is_of_shapes
from vlmprune.models.weights import check_memory, check_sizes
from vlmprune.pruning.features import FeatureStore

__all__ = ["Checkpoint", "Loaded", "check_hardware", "find_checkpoint", "load", "resolve_device", "resolve_dtype"]


@dataclass
class Loaded:
    """A loaded model with its adapter and preprocessor."""

    model: Any
    adapter: Adapter
    preprocessor: Preprocessor
    device: torch.device
    features: FeatureStore | None = None  # of its vision encoder's results


_loaded: dict[tuple, Loaded] = {}  # holds the last model, so that jobs of a sweep that share it load it once


def load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    """Return the loaded model and preprocessor, from memory if they were loaded last. Raises UserError for damage."""
    key = (checkpoint.identity, dtype, device, repr(config))
    if key not in _loaded:
        _loaded.clear()  # first, so that two large models are never in memory together
        _loaded[key] = _load(checkpoint, config, dtype, device)
    return _loaded[key]


def _load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    known = outline(checkpoint, config)  # first, since it takes a second, and the weights take minutes
    parts, empty = known.preprocessor.parts, known.adapter.model
    check_sizes(checkpoint, empty)
    if config.device_map is None and config.quantization is None:
        check_memory(checkpoint.source, empty, dtype, device)
    if checkpoint.random:
        model = draw_weights(checkpoint.config, config.attention, dtype, device)
    else:
        model = read_weights(checkpoint, config, dtype, device)
    model.eval()
    adapter = adapt(model, **adapter_options(config))
    family = family_module(checkpoint.config.model_type)
    return Loaded(model, adapter, family.Inputs(parts, adapter, config), model.device)


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
    except Exception as error:  # whatever transformers says of someone else's files
        if is_of_shapes(error):
            raise UserError(f"model.path={source}: its weights have other shapes than its config.json says") from error
        raise UserError(explain(source, error, checkpoint.revision)) from error
    model, loading_info = pair
    if loading_info["missing_keys"]:  # transformers would fill them with random numbers
        missing = sorted(loading_info["missing_keys"])
        raise UserError(f"model.path={source}: {len(missing)} weights are missing, {missing[0]} among them")
    if beyond := left_out(loading_info["unexpected_keys"], model):
        raise UserError(
            f"model.path={source}: its weights have layers or biases that its config.json leaves out, {beyond} among "
            "them; correct num_hidden_layers, depth or the fields of biases"
        )
    return model if placed else model.to(device)


def left_out(unexpected: Any, model: Any) -> str:
    """Return the first name in `unexpected` of a weight of a missing layer, or of a missing bias; "" for none.

    unexpected: all weights that transformers did not load, which may also be harmless buffers of older versions.
    """
    known = {re.sub(r"\.\d+\.", ".N.", name) for name in model.state_dict()}
    alike = (re.sub(r"\.\d+\.", ".N.", name) for name in unexpected)
    pairs = zip(unexpected, alike, strict=True)
    return min((name for name, like in pairs if {like, re.sub(r"\.bias$", ".weight", like)} & known), default="")
