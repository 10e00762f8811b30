"""What every model family shares: the runner's view of a loaded vision-language model.

A family is one file in this folder named after its `model_type` in config.json. It exports `adapt(model)` and, so that
impossible pairs are refused before weights load, `SIGNALS` and `describe_tower(config)`. No list names the families.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import vlmprune.models
from vlmprune.errors import UserError
from vlmprune.methods.base import Method, Tower
from vlmprune.registry import options, read

HELPERS = {"base", "inputs", "loading"}


class Adapter(ABC):
    """Where a family keeps the modules that pruning touches (see vlmprune.pruning.adapter for the engine's view)."""

    signals: frozenset[str]
    tower: Tower

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config

    @property
    @abstractmethod
    def base_model(self) -> Any: ...

    @property
    @abstractmethod
    def vision_tower(self) -> Any: ...

    @property
    @abstractmethod
    def projector(self) -> Any: ...

    @property
    @abstractmethod
    def language_model(self) -> Any: ...

    @abstractmethod
    def vision_layer(self, index: int) -> Any: ...

    @abstractmethod
    def vision_attention(self, index: int) -> Any: ...

    @abstractmethod
    def visual_mask(self, input_ids: Tensor) -> Tensor: ...

    def decoder_layer(self, index: int) -> Any:
        return self.language_model.layers[index]

    def decoder_attention(self, index: int) -> Any:
        return self.decoder_layer(index).self_attn

    @property
    def decoder_depth(self) -> int:
        return self.config.text_config.num_hidden_layers


def families() -> list[str]:
    """Model types that have an adapter here."""
    return sorted(m.name for m in pkgutil.iter_modules(vlmprune.models.__path__) if m.name not in HELPERS)


@dataclass(frozen=True)
class Family:
    """What is known of a checkpoint from its config.json alone."""

    signals: frozenset[str]
    tower: Tower


def describe(config: Any) -> Family:
    """Signals and vision tower of a checkpoint whose weights are not loaded."""
    module = importlib.import_module(f"vlmprune.models.{config.model_type}")
    return Family(module.SIGNALS, module.describe_tower(config))


def adapt(model: Any) -> Adapter:
    """The adapter of a loaded transformers model. Raises UserError where its family has none."""
    model_type = model.config.model_type
    if model_type not in families():
        raise UserError(f"model family '{model_type}' is not supported; supported: {', '.join(families())}")
    return importlib.import_module(f"vlmprune.models.{model_type}").adapt(model)


def check_pair(family: Family, method: Method, name: str, model: str) -> None:
    """Refuse a method that reads what the model lacks, naming those that do work."""
    missing = [need for need in method.needs if need not in family.signals]
    if missing:
        working = [
            other for other in options("method") if set(read("method", other)["info"]["needs"]) <= family.signals
        ]
        raise UserError(
            f"method '{name}' needs {', '.join(missing)}, which model '{model}' does not have; methods that work: "
            + ", ".join(working)
        )


def check_settings(method: Method, family: Family, depth: int, name: str) -> None:
    """Refuse settings that do not fit the model's depths and token count, before any weight loads."""
    try:
        method.check(family.tower, depth)
    except ValueError as error:
        raise UserError(f"method={name}: {str(error).removeprefix(f'{name}: ')}") from error
