"""Loading a checkpoint as users load it: from_pretrained, safetensors only, no remote code, nothing patched."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoTokenizer, ProcessorMixin

# transformers 5.17 hides its top-level name where torchvision is missing, though the PIL backend does not need it.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import cached_file

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.architecture import draw_weights, stand_in
from vlmprune.models.base import Adapter, adapt, check_options
from vlmprune.models.checkpoint import Checkpoint, explain, find_checkpoint, first_line
from vlmprune.models.hardware import check_hardware, quantizer, resolve_device, resolve_dtype
from vlmprune.models.inputs import Parts, Preprocessor
from vlmprune.pruning.features import FeatureStore

__all__ = ["Checkpoint", "Loaded", "check_hardware", "find_checkpoint", "load", "resolve_device", "resolve_dtype"]


@dataclass
class Loaded:
    """A model ready to answer."""

    model: Any
    adapter: Adapter
    preprocessor: Preprocessor
    device: torch.device
    features: FeatureStore | None = None  # what its vision encoder gave so far


_loaded: dict[tuple, Loaded] = {}  # the last model: the jobs of a sweep that share it load it once


def load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    """Load model and processor, or return the ones that are there already. Raises UserError where they are damaged."""
    key = (checkpoint.identity, dtype, device, repr(config))
    if key not in _loaded:
        _loaded.clear()  # first, so that two large models are never in memory together
        _loaded[key] = _load(checkpoint, config, dtype, device)
    return _loaded[key]


def _load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    given = {"newline": config.newline, "packing": config.packing}
    options = {name: value for name, value in given.items() if value is not None}
    check_options(checkpoint.config.model_type, options)
    if checkpoint.random and not checkpoint.folder:
        parts = stand_in(config.name, checkpoint.config)
    else:
        parts = read_parts(checkpoint, config.prompt)  # before the weights: it takes a second, those take minutes
    if checkpoint.random:
        model = draw_weights(checkpoint.config, config.attention, dtype, device)
    else:
        model = read_weights(checkpoint, config, dtype, device)
    model.eval()
    adapter = adapt(model, **options)
    family = importlib.import_module(f"vlmprune.models.{checkpoint.config.model_type}")
    return Loaded(model, adapter, family.Inputs(parts, adapter, config), model.device)


def read_weights(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Any:
    """The model with the checkpoint's weights, on `device` or where `device_map` puts them. Raises UserError."""
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
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise UserError(explain(source, error, checkpoint.revision)) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise UserError(f"model.path={source}: its weights have other shapes than its config.json says") from error
    model, loading_info = pair
    if loading_info["missing_keys"]:  # transformers would fill them with random numbers and go on
        missing = sorted(loading_info["missing_keys"])
        raise UserError(f"model.path={source}: {len(missing)} weights are missing, {missing[0]} among them")
    return model if placed else model.to(device)


def read_parts(checkpoint: Checkpoint, prompt: str) -> Parts:
    """Tokenizer, image processor and chat template. Raises UserError where one is absent or damaged.

    transformers' own processor is not built: most need torchvision.
    """
    source, config = checkpoint.source, checkpoint.config
    common: dict[str, Any] = {"revision": checkpoint.revision, "trust_remote_code": False}
    try:
        what = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        what = "image processor"
        # Chosen explicitly: where torchvision is installed the default would be its backend and give other pixels.
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **common)
        what = "processor_config.json"
        settings, _ = ProcessorMixin.get_processor_dict(source, revision=checkpoint.revision)
        what = "video_preprocessor_config.json"
        video_size = _video_size(source, settings, checkpoint.revision)
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise UserError(f"model.path={source}: its {what} cannot be loaded ({first_line(error)})") from error
    template = settings.get("chat_template") or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template is None and prompt == "chat_template":
        raise UserError(f"model.path={source}: it has no chat template; use model.prompt=vicuna_v1")
    return Parts(
        tokenizer,
        image_processor,
        template,
        image_token=_token(tokenizer, config.image_token_id, source),
        # InternVL's has no id: its videos become images before the prompt is read.
        video_token=_token(tokenizer, config.video_token_id, source)
        if hasattr(config, "video_token_id")
        else getattr(tokenizer, "video_token", None),
        video_size=video_size,
    )


def _video_size(source: str, settings: dict[str, Any], revision: str | None) -> dict[str, int] | None:
    """`size` of the video processor, in processor_config.json or a file of its own; None where neither has it."""
    if "video_processor" in settings:
        return settings["video_processor"].get("size")
    file = cached_file(
        source, "video_preprocessor_config.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8")).get("size")


def _token(tokenizer: Any, index: int, source: str) -> str:
    token = tokenizer.convert_ids_to_tokens(index)
    if token is None:
        raise UserError(f"model.path={source}: its tokenizer has no token {index}, which its config.json names")
    return token
