"""Search for a checkpoint and its family, from config.json or from configs/architecture with random weights.

Nothing here or in loading.py executes code that comes with a checkpoint, and weights are read from safetensors only.

The weights are random, so that answers mean nothing; no file is downloaded. The tokenizer is a substitute that has the
checkpoint's special tokens at their ids, and one unknown token for every word. The image processor is transformers'
with the checkpoint's sizes.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedTokenizerFast

# transformers 5.17 does not export this at top level without torchvision, which the PIL backend does not need.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from vlmprune.config.registry import find_choices, read_choice
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError, nearest
from vlmprune.files import expand_path
from vlmprune.hashing import data_hash
from vlmprune.models.base import families
from vlmprune.models.config_schema import Config, check_agreement
from vlmprune.models.preprocessing import Processors
from vlmprune.models.processor import Checkpoint, check_folder, first_line, read_object
from vlmprune.models.weights import check_files, folder_hash
from vlmprune.typed_json import check_data

# All content in order; each medium as its placeholder between the tokens with which the checkpoint's template marks it.
TEMPLATE = (
    "{% for message in messages %}{% for item in message['content'] %}"
    "{% if item['type'] == 'text' %}{{ ' ' + item['text'] + ' ' }}{% else %}{{ media[item['type']] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def published_config(name: str) -> Any:
    """Return the transformers config of a published model. Raises UserError if none is shipped for it."""
    known = find_choices("architecture")
    if name not in known:
        raise UserError(
            f"model.random_weights=true: no architecture of model={name} is shipped; known: {', '.join(known)}; or "
            "model=path with a folder that has a config.json"
        )
    config = dict(read_choice("architecture", name)["config"])
    return AutoConfig.for_model(**config)


def random_model(config: Any, attention: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the model with random weights from a fixed seed, on `device`."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.device(device):
        torch.manual_seed(0)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attention)


def substitute_processors(name: str, config: Any) -> Processors:
    """Return a substitute for the tokenizer, image processor and chat template of a model, without a download."""
    data = read_choice("architecture", name)
    special: dict[str, int] = data["tokens"]
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, **special}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    tokens = {index: token for token, index in special.items()}
    media = {"image": data["image"], "video": data.get("video", "")}
    template = "{% set media = " + json.dumps(media) + " %}" + TEMPLATE
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(data["image_processor"]), encoding="utf-8")
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    video = tokens.get(getattr(config, "video_token_id", -1)) or media["video"].strip()
    return Processors(fast, processor, template, tokens[config.image_token_id], video or None)


EMBEDDED = Path(__file__).parent.parent / "tiny" / "checkpoint"


def find_checkpoint(model: ModelConfig) -> Checkpoint:
    """Return the checkpoint at `model.path`, with its identity. Raises UserError if there is none, or it is damaged."""
    return with_identity(describe_checkpoint(model))


def with_identity(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its identity, for which a folder's weight files are read. Raises UserError."""
    if checkpoint.identity:
        return checkpoint
    folder = Path(checkpoint.source)
    if checkpoint.random:
        return replace(checkpoint, identity=f"random:{folder_hash(folder)}")
    check_files(folder, checkpoint.source)
    return replace(checkpoint, identity=folder_hash(folder))


def describe_checkpoint(model: ModelConfig) -> Checkpoint:
    """Resolve `model.path` and read its config.json alone; a folder's identity stays "" until `with_identity`.

    Raises UserError if there is no checkpoint, or if it cannot work.
    """
    source = model.path or str(EMBEDDED)
    folder = expand_path("model.path", source)
    if source.startswith((".", "/", "~")) and not folder.is_dir():
        raise UserError(f"model.path={source}: no such folder{_neighbour(folder)}")
    if folder.is_dir() and model.revision is not None:
        raise UserError(f"model.revision={model.revision}: {source} is a folder; revisions are of hub names")
    if model.random_weights and not folder.is_dir():
        config = check_family(published_config(model.name), source)
        return Checkpoint(source, config, f"random:{data_hash(config.to_dict())}", random=True)
    if folder.is_dir():
        check_folder(folder, f"model.path={source}:")
    try:
        # As plain data first: the config class of a family that transformers does not know would be remote code.
        read_object(str(folder) if folder.is_dir() else source, "config.json", model.revision)
        data, _ = PreTrainedConfig.get_config_dict(folder if folder.is_dir() else source, revision=model.revision)
    except OSError as error:
        raise UserError(load_error(source, error, model.revision)) from error
    except Exception as error:  # transformers raises many types for a damaged file
        raise UserError(f"model.path={source}: cannot be loaded (config.json: {first_line(error)})") from error
    if not isinstance(data.get("model_type"), str):
        raise UserError(f"model.path={source}: cannot be loaded (no config.json with a model_type)")
    check_family(data, source)
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


def check_family(config: Any, source: str) -> Any:
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


def load_error(source: str, error: Exception, revision: str | None) -> str:
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
    names = [path for name in find_choices("model") if "/" in (path := str(read_choice("model", name).get("path")))]
    if source in names:
        return ""
    return nearest(source, names) or f" (vlmprune list models: {', '.join(sorted(names)[:3])}, ...)"


def _neighbour(folder: Path) -> str:
    """Return a hint with the name of a sibling similar to a folder that does not exist; '' for none."""
    beside = [each.name for each in folder.parent.iterdir() if each.is_dir()] if folder.parent.is_dir() else []
    return nearest(folder.name, beside)
