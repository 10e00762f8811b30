"""Checks that turn silent errors of a session into exceptions: exclusive use of a model, and calls that cannot work."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn


class PrunedModels:
    """The models that are being pruned in this process, and torch.compile's stance while there are any.

    Compiled code skips hooks, so that it would run a model unpruned, or with a prompt of the wrong length. So compiled
    code runs uncompiled while a session is open, in the whole process: torch has one stance per process.
    """

    def __init__(self) -> None:
        self._models: WeakSet[nn.Module] = WeakSet()
        self._lock = threading.Lock()
        self._eager: Any = None

    def add(self, model: nn.Module) -> None:
        """Register a model. Raises RuntimeError if it is being pruned already."""
        with self._lock:
            if model in self._models:
                raise RuntimeError(
                    "this model is already being pruned: leave the first `with prune(...)` before the next"
                )
            if self._eager is None:
                self._eager = torch.compiler.set_stance("force_eager")
            self._models.add(model)

    def discard(self, model: nn.Module) -> None:
        """Remove a model; after the last one, compiled code runs compiled again."""
        with self._lock:
            self._models.discard(model)
            if not self._models and self._eager is not None:
                self._eager.__exit__(None, None, None)
                self._eager = None


def warn_of_compiled(model: nn.Module) -> None:
    """Warn the caller's caller if the model or a part of it was compiled with torch.compile."""
    if any(
        module._compiled_call_impl is not None
        or hasattr(module, "_orig_mod")
        or hasattr(vars(module).get("forward"), "get_compiler_config")
        for module in model.modules()
    ):
        warnings.warn("compiled parts of the model run uncompiled inside `with prune(...)`", stacklevel=3)


class ThreadOwnership:
    """`with one_thread:` this thread alone uses a session; others are refused, since its hooks hold one prompt.

    end: called once the session is closed and no thread uses it any more.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._free = threading.Condition()
        self._user: threading.Thread | None = None
        self._depth = 0
        self._closed = False

    def open(self) -> None:
        """Allow use of the session."""
        self._closed = False

    def __enter__(self) -> None:
        me = threading.current_thread()
        with self._free:
            if self._user not in (None, me):
                assert self._user is not None
                raise RuntimeError(
                    f"this model is running in thread '{self._user.name}': a session serves one thread at a time; wait "
                    "for it, or give each thread a model of its own"
                )
            if self._closed:
                raise RuntimeError("the `with prune(...)` block was left by an error while this generation ran")
            self._user, self._depth = me, self._depth + 1

    def __exit__(self, *_: object) -> None:
        with self._free:
            self._depth -= 1
            if self._depth:
                return
            self._user = None
            if self._closed:
                self._end()
            self._free.notify_all()

    def close(self, wait: bool) -> None:
        """End the session. If another thread still generates, wait for it or, without `wait`, stop it."""
        with self._free:
            try:
                while wait and self._user not in (None, threading.current_thread()):
                    self._free.wait()
            finally:
                self._closed = True
                if self._user in (None, threading.current_thread()):
                    self._end()


def refuse_generation(kwargs: dict[str, Any], config: Any, drops_inside: bool) -> None:
    """Raise NotImplementedError if these arguments of generate() cannot work while tokens are pruned.

    config: the GenerationConfig, for arguments that are not given. drops_inside: True if decoder layers drop tokens.
    """
    for name in ("assistant_model", "prompt_lookup_num_tokens", "prefill_chunk_size"):
        if kwargs.get(name, getattr(config, name, None)) is not None:
            raise NotImplementedError(f"generate({name}=...) does not work while tokens are pruned")
    if kwargs.get("guidance_scale", getattr(config, "guidance_scale", None)) not in (None, 1):
        raise NotImplementedError(
            "generate(guidance_scale=...) does not work while tokens are pruned: it fills two caches"
        )
    implementation = kwargs.get("cache_implementation", getattr(config, "cache_implementation", None))
    if drops_inside and implementation not in (None, "dynamic"):
        raise NotImplementedError(f"cache_implementation='{implementation}' inside the decoder: use dynamic")


def refuse_full_prompt(kwargs: dict[str, Any]) -> None:
    """Raise NotImplementedError for arguments of model(...) that refer to indices of the full prompt."""
    if kwargs.get("labels") is not None:
        raise NotImplementedError("labels= while tokens are pruned: logits are of the shortened prompt")
    if isinstance(kwargs.get("logits_to_keep"), Tensor):
        raise NotImplementedError(
            "logits_to_keep= as indices while tokens are pruned: logits are of the shortened prompt; give a number of "
            "last tokens"
        )


def refuse_checkpointing(layers: list[nn.Module]) -> None:
    """Raise NotImplementedError if gradient checkpointing would run one of `layers` again in the backward pass.

    layers: those in which a session acts. By then the session may have ended, or its hooks hold another prompt's state.
    """
    if torch.is_grad_enabled() and any(
        layer.training and getattr(layer, "gradient_checkpointing", False) and is_trained(layer) for layer in layers
    ):
        raise NotImplementedError(
            "gradient checkpointing of layers in which tokens are scored or dropped: it runs them again "
            "in the backward pass; call model.gradient_checkpointing_disable(), or freeze them"
        )


def is_trained(module: nn.Module) -> bool:
    """Return True if any of its weights gets a gradient."""
    return any(weight.requires_grad for weight in module.parameters())
