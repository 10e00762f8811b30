"""Loading a checkpoint as users load it: from_pretrained, safetensors only, no remote code, nothing patched."""

from __future__ import annotations

import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, ProcessorMixin

# transformers 5.17 hides its top-level name where torchvision is missing, though the PIL backend does not need it.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.base import Adapter, adapt, families
from vlmprune.models.inputs import Parts, Preprocessor

EMBEDDED = Path(__file__).parent.parent / "tiny" / "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found and whose config.json was read; no weight is loaded yet."""

    source: str  # folder or hub name
    config: Any  # transformers config
    identity: str  # commit on the hub, or a hash of the folder's files


def find_checkpoint(model: ModelConfig) -> Checkpoint:
    """Resolve `model.path` and read its config.json. Raises UserError where there is none or no family fits."""
    source = model.path or str(EMBEDDED)
    folder = Path(source).expanduser()
    if source.startswith((".", "/", "~")) and not folder.is_dir():
        raise UserError(f"model.path={source}: no such folder")
    try:
        config = AutoConfig.from_pretrained(folder if folder.is_dir() else source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.path={source}: cannot be loaded ({first_line(error)}); without network, download it elsewhere "
            "and set model.path=/folder"
        ) from error
    if config.model_type not in families():
        raise UserError(
            f"model.path={source}: family '{config.model_type}' is not supported; supported: {', '.join(families())}"
        )
    if folder.is_dir():
        return Checkpoint(str(folder), config, folder_hash(folder))
    return Checkpoint(source, config, f"commit:{config._commit_hash}")


def resolve_device(device: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device={device}: allowed: auto, cpu, cuda, cuda:N") from error
    if resolved.type not in ("cpu", "cuda"):
        raise UserError(f"device={device}: allowed: auto, cpu, cuda, cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices; use device=cpu")
    return resolved


def resolve_dtype(dtype: str, checkpoint: Checkpoint, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU and the checkpoint's own dtype elsewhere."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    return checkpoint.config.dtype or torch.float16


@dataclass
class Loaded:
    """A model ready to answer."""

    model: Any
    adapter: Adapter
    preprocessor: Preprocessor
    device: torch.device


_loaded: dict[tuple, Loaded] = {}  # the last model: the jobs of a sweep that share it load it once


def load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    """Load model and processor, or return the ones that are there already. Raises UserError where they are damaged."""
    key = (checkpoint.identity, dtype, device, repr(config))
    if key not in _loaded:
        _loaded.clear()  # first, so that two large models are never in memory together
        _loaded[key] = _load(checkpoint, config, dtype, device)
    return _loaded[key]


def _load(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Loaded:
    source = checkpoint.source
    try:
        parts = read_parts(checkpoint)
        pair: Any = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation=config.attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise UserError(f"model.path={source}: cannot be loaded ({first_line(error)})") from error
    model, loading_info = pair
    if loading_info["missing_keys"]:  # transformers would fill them with random numbers and go on
        missing = sorted(loading_info["missing_keys"])
        raise UserError(f"model.path={source}: {len(missing)} weights are missing, {missing[0]} among them")
    model.to(device).eval()
    adapter = adapt(model)
    family = importlib.import_module(f"vlmprune.models.{checkpoint.config.model_type}")
    return Loaded(model, adapter, family.Inputs(parts, adapter, config), device)


def read_parts(checkpoint: Checkpoint) -> Parts:
    """Tokenizer, image processor and chat template. Raises OSError or ValueError where one is absent or damaged."""
    source, config = checkpoint.source, checkpoint.config
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    # Chosen explicitly: where torchvision is installed the default would be its backend and give other pixels.
    image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", trust_remote_code=False)
    # The processor's own file, read without building it: most processors cannot be built without torchvision.
    settings, _ = ProcessorMixin.get_processor_dict(source)
    template = settings.get("chat_template") or tokenizer.chat_template
    video_id = getattr(config, "video_token_id", None)
    return Parts(
        tokenizer,
        image_processor,
        template["default"] if isinstance(template, dict) else template,
        image_token=tokenizer.convert_ids_to_tokens(config.image_token_id),
        video_token=None if video_id is None else tokenizer.convert_ids_to_tokens(video_id),
    )


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def folder_hash(folder: Path) -> str:
    """sha256 over names and contents; of files above 64 MB, the size and 16 blocks of 1 MB spread over them."""
    digest = hashlib.sha256()
    kinds = (".json", ".safetensors", ".jinja", ".model")
    for file in sorted(path for path in folder.iterdir() if path.suffix in kinds):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with open(file, "rb") as handle:
            if size <= 64 * 2**20:
                digest.update(handle.read())
            else:
                for block in range(16):
                    handle.seek(block * (size - 2**20) // 15, os.SEEK_SET)
                    digest.update(handle.read(2**20))
    return f"sha256:{digest.hexdigest()}"
