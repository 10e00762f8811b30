"""Attention probes, patches of a model's methods, and the precision of what selects tokens.

transformers' attention modules look their kernel up by name in `ALL_ATTENTION_FUNCTIONS`. A probe gives one module a
shallow copy of its config whose kernel is ours: it passes (query, key) to an observer and then calls the kernel that
the model was loaded with. So a [CLS] row costs 1 x N dot products instead of every layer's N x N map, SDPA and flash
stay on, and the module's output is bit-identical.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from vlmprune.methods.tensor_ops import at_least_float32, products


def refuse_copy(*_: object) -> NoReturn:
    """Raise RuntimeError; the `__deepcopy__` and `__reduce_ex__` of all objects that a session puts on a model.

    A copy of the model would copy them too, and would stay pruned after the session.
    """
    raise RuntimeError("a model cannot be copied or pickled inside `with prune(...)`: do so before the block or after")


class MethodPatch:
    """Replacement of `owner.name` by `wrap(the original method)`, until `remove` restores it."""

    def __init__(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        method = getattr(owner, name)
        functools.update_wrapper(self, method)
        self._owner, self._name, self._method, self._call = owner, name, method, wrap(method)
        self._own = {key: value for key, value in vars(owner).items() if key == name}  # an attribute set before, if any
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def remove(self) -> None:
        """Restore the owner's method. A shallow copy of the owner keeps this object, which then calls the original."""
        self._call = self._method
        delattr(self._owner, self._name)
        vars(self._owner).update(self._own)

    __deepcopy__ = __reduce_ex__ = refuse_copy


# The libraries that have a precision setting; torch.set_float32_matmul_precision sets both.
PRODUCTS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


class ProductPrecision:
    """`with` block of exact float32 products: one setting for the process, restored when the last thread leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = [library.fp32_precision for library in PRODUCTS]
                for library in PRODUCTS:
                    library.fp32_precision = "ieee"
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, precision in zip(PRODUCTS, self._before, strict=True):
                    library.fp32_precision = precision


_float32_products = ProductPrecision()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute matrix products of float32 tensors in float32 within the block: no autocast, no TF32, no bfloat16."""
    with _float32_products, torch.autocast(device.type, enabled=False):
        yield


KERNEL = "vlmprune_probe"
COPIED = 2**22  # entries of a key that are held in float32 at a time: 16 MiB

# Arguments with which a kernel's rows are not softmax(q.k) alone. Others are accepted: those of forward() get here too.
OTHER_SOFTMAX = ("softcap", "s_aux", "sinks", "position_bias", "attention_bias", "alibi", "indices", "block_indices")

Observer = Callable[[Tensor, Tensor, Tensor | None, float], None]

_observers: WeakKeyDictionary[nn.Module, tuple[Observer, str]] = WeakKeyDictionary()


def _observe_and_attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,  # by position from kvpress, which wraps all kernels
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    if module not in _observers:
        raise RuntimeError(f"{type(module).__name__} was copied inside `with prune(...)`: copy it before or after")
    observer, kernel = _observers[module]
    check_softmax(module, key.shape[2], kwargs)
    observer(query, key, attention_mask, kwargs["scaling"])
    if kernel == "eager":  # not in the registry: every modelling file defines one
        attend = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[kernel]
    return attend(module, query, key, value, attention_mask, dropout=dropout, **kwargs)


AttentionInterface.register(KERNEL, _observe_and_attend)


def check_softmax(module: nn.Module, keys: int, kwargs: dict[str, Any]) -> None:
    """Raise NotImplementedError if a kernel's arguments say that its rows are not softmax(scaling q.k).

    A sliding window at least as long as the keys does not change the rows.
    """
    name, window = type(module).__name__, kwargs.get("sliding_window")
    if kwargs.get("scaling") is None:
        raise NotImplementedError(f"{name} does not say what it multiplies q.k by: its attention rows cannot be read")
    others = [argument for argument in OTHER_SOFTMAX if kwargs.get(argument) is not None]
    if window is not None and window < keys:
        others.append("sliding_window")
    if others:
        raise NotImplementedError(f"{name} attends with {others[0]}: its attention rows cannot be read")


class AttentionProbe:
    """Observation of one attention module, until `remove`: `observer` gets its inputs to softmax at each call.

    observer: called with the post-RoPE query [B, H, Lq, d] and key [B, Hkv, Lk, d], the mask and the scaling.
    """

    def __init__(self, attention: Any, observer: Observer) -> None:
        self.attention = attention
        self.config = attention.config
        _observers[attention] = (observer, self.config._attn_implementation)
        attention.config = copy.copy(self.config)
        attention.config._attn_implementation_internal = KERNEL

    def remove(self) -> None:
        """Restore the module's config."""
        self.attention.config = self.config
        del _observers[self.attention]


def probe_error(module: nn.Module) -> RuntimeError:
    """Return the error for a module whose probe was not called, so that there is no attention to select by."""
    return RuntimeError(
        f"{type(module).__name__} did not show its attention, so that nothing can be chosen by it: something calls it "
        "past transformers' attention interface"
    )


class _StopAttention(Exception):
    """Raised to end an attention call as soon as its query and key are known."""


def query_and_key(attention: Any, **inputs: Any) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """Return (query, key, mask, scaling) of the call `attention(**inputs)`, without computing the attention."""
    seen: list[tuple[Tensor, Tensor, Tensor | None, float]] = []

    def observer(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        seen.append((query, key, mask, scaling))
        raise _StopAttention

    probe = AttentionProbe(attention, observer)
    try:
        attention(**inputs)
    except _StopAttention:
        return seen[0]
    finally:
        probe.remove()
    raise probe_error(attention)


def attention_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Return post-softmax attention [B, H, R, Lk] of query rows [B, H, R, d] over key [B, Hkv, Lk, d].

    In float32 at least: the rows are those of exactly this query and key, up to the rounding of float32 (float64 stays
    float64). Where the logits of a row have a large common part, half precision would round away their differences, and
    float16 overflow. The query and key themselves are used as the model rounded them.
    Equal keys get equal attention, to the last bit, under the conditions of `products`.

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
            # Softmax ignores a constant in a row's logits; without it, float32 rounds them less.
            logits[:, part] = products(grouped[:, part], key[:, part] - at_least_float32(key[:, part, -1:]))
    logits = logits.view(batch, heads, rows, length) * scaling
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    elif mask is not None:
        # The least number of a half-precision mask means "hidden", but large float32 logits could outweigh it.
        hidden = mask <= torch.finfo(mask.dtype).min
        logits = (logits + mask).masked_fill(hidden, torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1)
