"""A model that is loaded already as the model of a run: the settings that describe it, and its identity.

A run names what it reads: the checkpoint's tokenizer, image processor, rules of decoding, and weights. All but the
weights have to be those of the checkpoint that the model was loaded from. Weights may have changed since (fine-tuning,
merged adapters): they are compared with the checkpoint's files, number by number, and become part of the identity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from vlmprune.config.registry import read_choices
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError
from vlmprune.evaluation.generation import rules_of
from vlmprune.evaluation.plan import Plan, Resources
from vlmprune.hashing import data_hash
from vlmprune.models.base import adapt, family_module
from vlmprune.models.checkpoint import EMBEDDED, find_checkpoint
from vlmprune.models.loading import LoadedModel
from vlmprune.models.outline import build_weightless
from vlmprune.models.preprocessing import Processors
from vlmprune.models.weights import local_folder, weight_files

# Settings of model.* that choose how it is prompted; the others describe its files, which are loaded already.
FREE = ("prompt", "image", "generation")
OF_LOADING = tuple({each.name for each in fields(ModelConfig)} - {*FREE, "name", "info", "options"})
NAME = re.compile(r"[A-Za-z_/][\w/.\-]*", re.ASCII)  # a text that Hydra takes for a text without quotes
WORDS = ("null", "true", "false", "inf", "nan")
CHUNK = 2**22  # numbers of a tensor that are added up at a time
SAVE = "save the model and the processor to one folder with save_pretrained, and load both from there"


def setting_lines(name: str, value: Any) -> list[str]:
    """Return a setting as the command line's `key=value`, with one line per entry of a mapping."""
    if isinstance(value, Mapping):
        return [line for key, each in value.items() for line in setting_lines(f"{name}.{key}", each)]
    return [f"{name}={_typed(name, value)}"]


def _typed(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(_typed(name, each) for each in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str | Path):
        raise UserError(f"{name}={value!r}: expected a text, a number, true or false, None, or a list or dict of them")
    text = str(value)
    if NAME.fullmatch(text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text).replace("${", "\\${")
    return f"'{escaped}'"


def choice_lines(group: str, choice: Any) -> list[str]:
    """Return the settings of a choice given by its name, or as {"name": name, setting: value, ...}."""
    if isinstance(choice, str):
        choice = {"name": choice}
    if not isinstance(choice, Mapping) or not isinstance(choice.get("name"), str):
        raise UserError(
            f"{group}={choice!r}: expected a name of `vlmprune list {group}s`, or {{'name': name, setting: value}}; a "
            f"class of yours gets a name from one YAML, in the folder config_dir="
        )
    own = {f"{group}.{key}": value for key, value in choice.items() if key != "name"}
    return setting_lines(group, choice["name"]) + [line for key in own for line in setting_lines(key, own[key])]


def model_lines(model: Any, options: Mapping[str, Any], config_dir: str | None) -> list[str]:
    """Return the settings that describe a loaded model and its device; options: further settings of model.*.

    A checkpoint that `vlmprune list models` names has that choice's settings.
    """
    for name in options:
        if name in OF_LOADING:
            raise UserError(f"model_options {name}={options[name]}: is that of the loaded model, and cannot be chosen")
    source = str(getattr(model, "name_or_path", "") or "")
    if not source:
        raise UserError(f"the model was not loaded from a checkpoint, which a run reads: {SAVE}")
    if model.training:
        raise UserError("the model is in training mode, in which dropout changes answers: call model.eval()")
    choice = _choice_of(source, config_dir)
    lines = [f"model={choice}"]
    if choice == "path":
        lines += setting_lines("model.path", source)
    commit = getattr(model.config, "_commit_hash", None)
    if commit is not None and not Path(source).is_dir():
        lines += setting_lines("model.revision", commit)
    dtype = str(model.dtype).removeprefix("torch.")
    lines += [f"model.dtype={dtype}", f"model.attention={model.config._attn_implementation}"]
    return [*lines, *setting_lines("model", options), *setting_lines("device", str(model.device))]


def _choice_of(source: str, config_dir: str | None) -> str:
    """Return the choice of model= with the checkpoint `source`; `path` for none."""
    folder = Path(source).resolve() if Path(source).is_dir() else None
    choices, _ = read_choices("model", config_dir)
    for name, choice in choices.items():
        path = choice.get("path") or str(EMBEDDED)
        if name != "path" and (path == source or Path(path).resolve() == folder):
            return name
    return "path"


def changed_weights(model: Any, config: ModelConfig) -> str | None:
    """Return a hash of the model's weights if they are not the numbers in its checkpoint's files, in its dtype."""
    checkpoint = find_checkpoint(config)
    weights = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    for name, tensor in weights.items():
        if tensor.is_meta:
            raise UserError(f"{name} of the model is on no device (offloaded): load it onto one, or use `vlmprune run`")
    own = {name: checksum(tensor) for name, tensor in weights.items()}
    folder = local_folder(checkpoint, f"model.path={checkpoint.source}:")
    dtypes = frozenset(tensor.dtype for tensor in weights.values() if tensor.is_floating_point())
    if set(own.values()) <= _stored(str(folder), checkpoint.identity, dtypes):
        return None
    return data_hash(own)


@lru_cache(maxsize=4)
def _stored(folder: str, identity: str, dtypes: Iterable[torch.dtype]) -> frozenset[tuple[Any, ...]]:
    """Return the checksums of all tensors in a folder's files, in each dtype. identity: of their content."""
    found = set()
    for file in weight_files(Path(folder), folder):
        with safe_open(str(file), framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                tensor = handle.get_tensor(name)
                found.add(checksum(tensor))
                found |= {checksum(tensor.to(dtype)) for dtype in dtypes}
    return frozenset(found)


def checksum(tensor: Tensor) -> tuple[Any, ...]:
    """Return shape, dtype and two sums over the bits of all numbers, plain and by place: the same on every device."""
    flat = tensor.detach().reshape(-1)
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    plain = by_place = 0
    for start in range(0, flat.numel(), CHUNK):
        bits = flat[start : start + CHUNK].contiguous().view(kind).long()
        places = torch.arange(start + 1, start + 1 + bits.numel(), device=bits.device)
        plain, by_place = plain + int(bits.sum()), by_place + int((bits * places).sum())
    return tuple(tensor.shape), str(tensor.dtype), plain, by_place


def give_model(plan: Plan, model: Any, processor: Any, resources: Resources) -> None:
    """Make `model` the one that `plan` runs with. Raise UserError if it or the processor is not as the plan says."""
    prepared = build_weightless(plan.checkpoint, plan.config.model).preprocessor.processors
    check_processor(processor, prepared, plan.checkpoint.source)
    for name, (own, file) in _differences(model.config.to_dict(), plan.checkpoint.config.to_dict()).items():
        raise UserError(f"model.config.{name}={own}: its checkpoint's config.json has {file}; {SAVE}")
    adapter = adapt(model, plan.config.model.options, "model.")
    family = family_module(plan.checkpoint.config.model_type)
    loaded = LoadedModel(model, adapter, family.Inputs(prepared, adapter, plan.config.model), model.device)
    own, file = rules_of(loaded).effective, plan.rules.effective
    for name in sorted(own.keys() | file.keys()):
        if own.get(name) != file.get(name):
            raise UserError(
                f"model.generation_config.{name}={own.get(name)}: its checkpoint's file has {file.get(name)}; {SAVE}"
            )
    resources.model, resources.model_key = loaded, plan.model_key


def check_processor(processor: Any, own: Processors, source: str) -> None:
    """Raise UserError if a processor's words, pixels or chat template are not those of its checkpoint, `own`."""
    tokenizer, pictures = (getattr(processor, name, None) for name in ("tokenizer", "image_processor"))
    if tokenizer is None or pictures is None:
        raise UserError(f"processor={type(processor).__name__}: expected that of AutoProcessor.from_pretrained")
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    given, file = pictures.to_dict(), own.image_processor.to_dict()
    # The backend, whose name is the type, is the run's own; `_` are notes of transformers.
    shared = [name for name in file if name in given and name != "image_processor_type" and not name.startswith("_")]
    faults = {
        "tokenizer": _words(tokenizer) != _words(own.tokenizer),
        "chat template": template != own.chat_template,
        **{f"image processor's {name}": given[name] != file[name] for name in shared},
    }
    for name, differs in faults.items():
        if differs:
            raise UserError(f"processor: its {name} is not that of {source}, which the model was loaded from; {SAVE}")


def _words(tokenizer: Any) -> Any:
    """Return all that decides the ids of a text; padding and truncation are set by every call."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return tokenizer.get_vocab()
    return json.loads(fast.to_str()) | {"padding": None, "truncation": None}


# Fields of a config that describe a loading, or the version of transformers.
UNTIED = re.compile(r"(.*\.)?(_.*|dtype|torch_dtype|transformers_version|architectures|attn_implementation|use_cache)")


def _differences(own: dict[str, Any], file: dict[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Return (own, file's) value of every entry in two nested mappings that differs, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(own.keys() | file.keys(), key=str):
        one, other = own.get(name), file.get(name)
        if UNTIED.fullmatch(f"{where}{name}"):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            found |= _differences(one, other, f"{where}{name}.")
        elif one != other:
            found[f"{where}{name}"] = (one, other)
    return found
