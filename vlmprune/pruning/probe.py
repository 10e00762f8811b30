"""Attention rows beside SDPA: read the query and key that one attention module really uses, and change nothing.

transformers' attention modules look their kernel up by name in `ALL_ATTENTION_FUNCTIONS`. A probe gives one module a
shallow copy of its config whose kernel is ours: it shows (query, key) to an observer and then calls the kernel that
the model was loaded with. So a [CLS] row costs 1 x N dot products instead of every layer's N x N map, SDPA and flash
stay on, and the module's output keeps every bit.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

KERNEL = "vlmprune_probe"

# Arguments with which a kernel's rows are no softmax of q.k alone. Others pass: settings of forward() get here too.
OTHER_SOFTMAX = ("softcap", "s_aux", "sinks", "position_bias", "attention_bias", "alibi", "indices", "block_indices")

Observer = Callable[[Tensor, Tensor, Tensor | None, float], None]

_observers: WeakKeyDictionary[nn.Module, tuple[Observer, str]] = WeakKeyDictionary()


def _observe_and_attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    observer, kernel = _observers[module]
    check_softmax(module, key.shape[2], kwargs)
    observer(query, key, attention_mask, kwargs["scaling"])
    if kernel == "eager":  # not in the registry: every modelling file has its own
        attend = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[kernel]
    return attend(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(KERNEL, _observe_and_attend)


def check_softmax(module: nn.Module, keys: int, kwargs: dict[str, Any]) -> None:
    """Raise NotImplementedError where a kernel's arguments say that its rows are not softmax(scaling q.k).

    A sliding window as long as the keys leaves the rows what they are.
    """
    name, window = type(module).__name__, kwargs.get("sliding_window")
    if kwargs.get("scaling") is None:
        raise NotImplementedError(f"{name} does not say what it multiplies q.k by: its attention rows cannot be read")
    others = [argument for argument in OTHER_SOFTMAX if kwargs.get(argument) is not None]
    if window is not None and window < keys:
        others.append("sliding_window")
    if others:
        raise NotImplementedError(f"{name} attends with {others[0]}: its attention rows cannot be read")


class Probe:
    """Shows an attention module's post-RoPE query [B, H, Lq, d] and key [B, Hkv, Lk, d] to `observer` at each call."""

    def __init__(self, attention: Any, observer: Observer) -> None:
        self.attention = attention
        self.config = attention.config
        _observers[attention] = (observer, self.config._attn_implementation)
        attention.config = copy.copy(self.config)
        attention.config._attn_implementation_internal = KERNEL

    def remove(self) -> None:
        """Give the module its own config back."""
        self.attention.config = self.config
        del _observers[self.attention]


class _Observed(Exception):
    """Ends an attention call as soon as its query and key are known."""


def query_and_key(attention: Any, **inputs: Any) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """What `attention(**inputs)` would attend with, without attending: (query, key, mask, scaling)."""
    seen: list[tuple[Tensor, Tensor, Tensor | None, float]] = []

    def observer(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        seen.append((query, key, mask, scaling))
        raise _Observed

    probe = Probe(attention, observer)
    try:
        attention(**inputs)
    except _Observed:
        return seen[0]
    finally:
        probe.remove()
    raise RuntimeError(f"{type(attention).__name__} does not use transformers' attention interface")


def attention_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Post-softmax attention, float32 [B, H, R, Lk], of query rows [B, H, R, d] over key [B, Hkv, Lk, d].

    mask: bool (True = may attend) or additive, broadcastable to [B, 1, R, Lk], or None. Grouped keys are shared by
    their query heads without being repeated in memory.
    """
    batch, heads, rows, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * rows, width)
    logits = (grouped @ key.transpose(-1, -2)).view(batch, heads, rows, -1) * scaling
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    elif mask is not None:
        logits = logits + mask
    return logits.softmax(dim=-1, dtype=torch.float32)
