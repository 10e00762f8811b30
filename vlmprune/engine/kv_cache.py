"""The KV cache after a prefill: its bytes, and presses of NVIDIA's kvpress, which compress what pruning leaves.

A press is a forward hook on every attention module of the decoder. At the end of a prefill's attention it replaces the
layer's keys and values by fewer ones. It tells a prefill by `cache_position`, an argument that transformers no longer
gives these modules: a session gives it, counted in the tokens of each layer's own cache.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import QuantizedCache

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.hooks import refuse_copy
from vlmprune.engine.prompt_state import Conversation, Segment


def cache_bytes(cache: Any) -> int:
    """Return the bytes of keys and values in a KV cache; of a static one, those of all its slots."""
    layers = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
    return sum(part.nbytes for pair in layers for part in pair if isinstance(part, Tensor))


def held_bytes(cache: Any) -> int | None:
    """Return `cache_bytes`; None without a cache, and for a quantized one, whose tensors are packed."""
    return None if cache is None or isinstance(cache, QuantizedCache) else cache_bytes(cache)


class Presses:
    """The press of kvpress on one model's decoder, found at each call since it may come and go inside a session."""

    def __init__(self, adapter: ModelInterface) -> None:
        self.adapter = adapter
        self._handles: list[Any] = []

    @property
    def press(self) -> Any:
        """The press whose hooks are on the decoder; None without one.

        Raises NotImplementedError for two presses, and for one that does more than to drop keys by score at prefill.
        """
        kvpress = sys.modules.get("kvpress")
        if kvpress is None:
            return None
        hooks = [hook for module in self._attentions for hook in module._forward_hooks.values()]
        owners = {id(owner): owner for owner in (getattr(hook, "__self__", None) for hook in hooks)}
        presses = [owner for owner in owners.values() if isinstance(owner, kvpress.BasePress)]
        if len(presses) > 1:
            names = " and ".join(type(press).__name__ for press in presses)
            raise NotImplementedError(f"{names} while tokens are pruned: give one press of kvpress")
        for press in presses:
            at_prefill = type(press).forward_hook is kvpress.BasePress.forward_hook
            if not (isinstance(press, kvpress.ScorerPress) and at_prefill):
                raise NotImplementedError(
                    f"{type(press).__name__} while tokens are pruned: of kvpress only presses that drop keys by score "
                    "at prefill (ScorerPress: KnormPress, SnapKVPress, ExpectedAttentionPress, ...)"
                )
        return presses[0] if presses else None

    @property
    def _attentions(self) -> list[nn.Module]:
        return [self.adapter.decoder_attention(index) for index in range(self.adapter.decoder_depth)]

    def serve(self, cache: Any, restarts: bool) -> None:
        """Give the press, if there is one, its `cache_position`, in this call and all later ones.

        restarts: True if the method runs layers twice. Raises NotImplementedError for what a press cannot work with.
        """
        press = self.press
        if press is None:
            return
        name = type(press).__name__
        if restarts:
            raise NotImplementedError(f"{name} with a method that runs decoder layers twice: it would compress both")
        if getattr(cache, "is_compileable", False):
            raise NotImplementedError(f"{type(cache).__name__} with {name}: use DynamicCache")
        if not self._handles:
            hook = PositionHook()
            self._handles = [part.register_forward_pre_hook(hook, with_kwargs=True) for part in self._attentions]

    def describe(self, held: Conversation, cache: Any) -> Conversation:
        """Return the conversation in a cache that a prefill has just filled, with the lengths that the press left.

        Raises NotImplementedError for layers with a sliding window, for prompts of different lengths, whose padding a
        press takes for tokens, and for layers of one segment with caches of different lengths.
        """
        press = self.press
        if press is None:
            return held
        name, starts = type(press).__name__, sorted(held.segments)
        if any(getattr(layer, "is_sliding", False) for layer in cache.layers):
            raise NotImplementedError(
                f"{name} on layers with a sliding window, whose cache counts what it no longer holds"
            )
        segments: dict[int, Segment] = {}
        for start, end in zip(starts, [*starts[1:], self.adapter.decoder_depth], strict=True):
            segment = held.segments[start]
            if segment.valid is not None and not segment.valid.all():
                raise NotImplementedError(f"{name} on prompts of different lengths: it takes padding for tokens")
            lengths = {int(cache.get_seq_length(index)) for index in range(start, end)}
            if len(lengths) > 1:
                raise NotImplementedError(f"{name} keeps {sorted(lengths)} tokens in layers that share one mask")
            segments[start] = replace(segment, length=lengths.pop(), valid=None)
        return replace(held, segments=segments)

    def remove(self) -> None:
        """Remove the hooks that give `cache_position`; those of the press are its own."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class PositionHook:
    """Hook before an attention module that adds `cache_position`: indices of the new tokens in the layer's cache."""

    def __call__(self, attention: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        hidden, cache = args[0] if args else kwargs["hidden_states"], kwargs.get("past_key_values")
        held = 0 if cache is None else int(cache.get_seq_length(attention.layer_idx))
        positions = torch.arange(held, held + hidden.shape[1], device=hidden.device)
        return args, kwargs | {"cache_position": positions}

    __deepcopy__ = __reduce_ex__ = refuse_copy
