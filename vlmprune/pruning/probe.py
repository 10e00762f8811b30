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

from vlmprune.methods.similarity import at_least_float32, products
from vlmprune.pruning.precision import full_precision

KERNEL = "vlmprune_probe"
COPIED = 2**22  # entries of a key that are held in float32 at a time: 16 MiB

Observer = Callable[[Tensor, Tensor, Tensor | None, float], None]

_observers: WeakKeyDictionary[nn.Module, tuple[Observer, str]] = WeakKeyDictionary()


def _observe_and_attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    observer, kernel = _observers[module]
    observer(query, key, attention_mask, kwargs["scaling"])
    if kernel == "eager":  # not in the registry: every modelling file has its own
        attend = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[kernel]
    return attend(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(KERNEL, _observe_and_attend)


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
    """Post-softmax attention [B, H, R, Lk] of query rows [B, H, R, d] over key [B, Hkv, Lk, d], in float32 at least.

    The rows are those of exactly this query and key, up to the rounding of float32 (float64 stays float64): where the
    logits of a row have a large part in common, half precision would round away what tells its tokens apart, and
    float16 overflow. What the model itself rounded, the query and key, stays as it is.
    Equal keys get equal attention, to the last bit, as far as `products` says.

    mask: bool (True = may attend) or additive, broadcastable to [B, 1, R, Lk], or None. Grouped keys are shared by
    their query heads without being repeated in memory; a few groups of them at a time are copied.
    """
    batch, heads, rows, width = query.shape
    groups, length = key.shape[1:3]
    grouped = at_least_float32(query.reshape(batch, groups, heads // groups * rows, width))
    logits = grouped.new_empty(*grouped.shape[:3], length)
    step = max(1, COPIED // (batch * length * width))
    with full_precision(query.device):
        for start in range(0, groups, step):
            part = slice(start, start + step)
            # Softmax does not see what a row's logits have in common: without it, float32 rounds them less.
            logits[:, part] = products(grouped[:, part], key[:, part] - at_least_float32(key[:, part, -1:]))
    logits = logits.view(batch, heads, rows, length) * scaling
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    elif mask is not None:
        # The least number of a half-precision mask means "hidden", but is none that float32 logits cannot outweigh.
        hidden = mask <= torch.finfo(mask.dtype).min
        logits = (logits + mask).masked_fill(hidden, torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1)
