"""Resolution of a checkpoint: its config.json is read and its family checked before weights are opened or downloaded.

Nothing here or in loading.py executes code that comes with a checkpoint, and weights are read from safetensors only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoConfig, PreTrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from vlmprune.config import ModelConfig
from vlmprune.errors import UserError, nearest
from vlmprune.files import expanded
from vlmprune.fingerprint import sha256
from vlmprune.models.architecture import architecture
from vlmprune.models.base import families
from vlmprune.models.config_schema import Config, check_agreement
from vlmprune.models.files import check_folder, read_object
from vlmprune.models.parts import Checkpoint, first_line
from vlmprune.models.weights import check_files, folder_hash
from vlmprune.registry import options, read
from vlmprune.typed_json import check_data

EMBEDDED = Path(__file__).parent.parent / "tiny" / "checkpoint"


def find_checkpoint(model: ModelConfig) -> Checkpoint:
    """Return the checkpoint at `model.path`, with its identity. Raises UserError if there is none, or it is damaged."""
    return identified(describe_checkpoint(model))


def identified(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its identity, for which a folder's weight files are read. Raises UserError."""
    if checkpoint.identity:
        return checkpoint
    folder = Path(checkpoint.source)
    if checkpoint.random:
        return replace(checkpoint, identity=f"random:{folder_hash(folder)}")
    check_files(folder, checkpoint.source)
    return replace(checkpoint, identity=folder_hash(folder))


def describe_checkpoint(model: ModelConfig) -> Checkpoint:
    """Resolve `model.path` and read its config.json alone; a folder's identity stays "" until it is `identified`.

    Raises UserError if there is no checkpoint, or if it cannot work.
    """
    source = model.path or str(EMBEDDED)
    folder = expanded("model.path", source)
    if source.startswith((".", "/", "~")) and not folder.is_dir():
        raise UserError(f"model.path={source}: no such folder{_neighbour(folder)}")
    if folder.is_dir() and model.revision is not None:
        raise UserError(f"model.revision={model.revision}: {source} is a folder; revisions are of hub names")
    if model.random_weights and not folder.is_dir():
        config = supported(architecture(model.name), source)
        return Checkpoint(source, config, f"random:{sha256(config.to_dict())}", random=True)
    if folder.is_dir():
        check_folder(folder, f"model.path={source}:")
    try:
        # As plain data first: the config class of a family that transformers does not know would be remote code.
        read_object(str(folder) if folder.is_dir() else source, "config.json", model.revision)
        data, _ = PreTrainedConfig.get_config_dict(folder if folder.is_dir() else source, revision=model.revision)
    except OSError as error:
        raise UserError(explain(source, error, model.revision)) from error
    except Exception as error:  # transformers raises many types for a damaged file
        raise UserError(f"model.path={source}: cannot be loaded (config.json: {first_line(error)})") from error
    if not isinstance(data.get("model_type"), str):
        raise UserError(f"model.path={source}: cannot be loaded (no config.json with a model_type)")
    supported(data, source)
    if "vision_config" not in data:  # transformers would use the default of another model
        raise UserError(
            f"model.path={source}: its config.json has no vision_config; a checkpoint in the format of the original "
            "code needs its '-hf' conversion"
        )
    config = read_config(data, folder if folder.is_dir() else source, f"model.path={source}:")
    if not folder.is_dir():
        return Checkpoint(source, config, f"commit:{config._commit_hash}", config._commit_hash)
    return Checkpoint(str(folder), config, "", random=model.random_weights, folder=True)


def read_config(data: dict[str, Any], source: str | Path, start: str) -> Any:
    """Return the transformers config of config.json's `data`. Raises UserError if its values are impossible.

    start: of the error's text.
    """
    try:
        check_data(data, Config)
        kind = (data.get("quantization_config") or {}).get("quant_method")
        if kind not in (None, "bitsandbytes", *AUTO_QUANTIZATION_CONFIG_MAPPING):  # transformers would ignore it
            raise ValueError(f"quantization_config.quant_method={kind}: transformers has no such method")
        if "text_config" not in data and "hidden_size" not in data:  # transformers would use the default of a 7B model
            raise ValueError("it has no text_config")
    except ValueError as error:
        raise UserError(f"{start} config.json: {error}") from error
    try:
        config = AutoConfig.from_pretrained(source, revision=data.get("_commit_hash"), trust_remote_code=False)
    except Exception as error:  # values that transformers cannot take
        reason = first_line(error.__cause__ or error)
        raise UserError(f"{start} its config.json cannot be used ({reason})") from error
    try:
        check_agreement(config)
    except ValueError as error:
        raise UserError(f"{start} config.json: {error}") from error
    return config


def supported(config: Any, source: str) -> Any:
    """Return the config, or its plain data, unchanged. Raises UserError if its family is not supported."""
    plain = isinstance(config, dict)
    model_type = config["model_type"] if plain else config.model_type
    if model_type in families():
        return config
    known = f"supported: {', '.join(families())}"
    if plain and not any(name.startswith(("vision", "visual", "mm_vision")) for name in config):
        raise UserError(f"model.path={source}: '{model_type}' is a text-only model, without images to prune; {known}")
    remark = "; code of its own is never run: try its '-hf' conversion" if plain and "auto_map" in config else ""
    raise UserError(f"model.path={source}: family '{model_type}' is not supported; {known}{remark}")


def explain(source: str, error: Exception, revision: str | None) -> str:
    """Return one line for the user: the reason why a checkpoint, or a file of it, cannot be read, and the remedy."""
    cause, start = error.__cause__, f"model.path={source}:"
    if isinstance(cause, GatedRepoError):
        return f"{start} gated: accept its terms at https://huggingface.co/{source} and run 'hf auth login'"
    if isinstance(cause, RevisionNotFoundError):
        return f"model.revision={revision}: {source} has no such branch, tag or commit"
    if isinstance(cause, RepositoryNotFoundError):
        return f"{start} not on the hub{_published_name(source)}; a private one needs 'hf auth login'"
    if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return (
            f"{start} neither a folder nor downloaded, and the hub cannot be reached{_published_name(source)}; where "
            f"there is a network, run 'hf download {source} --local-dir /folder', then set model.path=/folder"
        )
    return f"{start} cannot be loaded ({first_line(error)})"


def _published_name(source: str) -> str:
    """Return a hint with the hub name nearest to `source` in configs/model, or some of them; '' if it is one."""
    names = [path for name in options("model") if "/" in (path := str(read("model", name).get("path")))]
    if source in names:
        return ""
    return nearest(source, names) or f" (vlmprune list models: {', '.join(sorted(names)[:3])}, ...)"


def _neighbour(folder: Path) -> str:
    """Return a hint with the name of a sibling similar to a folder that does not exist; '' for none."""
    beside = [each.name for each in folder.parent.iterdir() if each.is_dir()] if folder.parent.is_dir() else []
    return nearest(folder.name, beside)
