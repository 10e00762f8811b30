"""Check of a decoder's structure, built without weights and run to its first attention, for pruning inside it.

A LLaVA's decoder may be any language model of transformers. The engine hooks its layers, gives them positions by its
rotary embedding and reads attention rows as softmax(scaling q.k). With a decoder that works otherwise a session would
fail deep inside or read wrong rows, so that it is refused before weights load.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_utils import AttentionInterface
from transformers.utils import TransformersKwargs

from vlmprune.errors import one_line, said

KERNEL = "vlmprune_structure"
TOKENS = 4  # of the run; every sliding window is longer

# Arguments of a kernel whose rows are still softmax(scaling q.k) over the keys that the mask allows.
PLAIN = frozenset(TransformersKwargs.__annotations__) | {"scaling", "dropout", "use_cache", "cache_position"}
ATTENDING = ("full_attention", "attention")  # of a config's layer_types
# Arguments with which pruning inside the decoder calls an attention module, to read its rows without running the layer.
ARGUMENTS = ("hidden_states", "position_embeddings", "attention_mask", "past_key_values")


@dataclass(frozen=True)
class DecoderStructure:
    """The reasons why a decoder cannot be pruned, "" where it can be, by kind of method.

    before: methods that drop tokens before the decoder. inside: methods that drop them before a layer K > 0. own: those
    that also read the attention of layer K itself (reads="own").
    """

    before: str = ""
    inside: str = ""
    own: str = ""


_examined: dict[str, DecoderStructure] = {}  # by config


def examine(text: Any) -> DecoderStructure:
    """Return the structure of the decoder with this config, in about 0.1 s, cached; no weight takes memory.

    text: the decoder's transformers config. Raises UserError if transformers cannot build it.
    """
    key = repr(text)
    if key not in _examined:
        config = copy.deepcopy(text)
        config._attn_implementation = None  # any that the decoder supports
        why = "text_config in the model's config.json: transformers cannot build it"
        with one_line(why, "correct it"), torch.device("meta"):
            decoder = AutoModel.from_config(config).eval()
        _examined[key] = _structure(decoder)
    return _examined[key]


def _structure(decoder: Any) -> DecoderStructure:
    name, fault = type(decoder).__name__, ""
    if not any(buffer.endswith("inv_freq") for buffer, _ in decoder.named_buffers()):
        fault = f"its decoder {name} has no rotary positions"  # each decoder with learned ones counts differently
    elif not isinstance(layers := getattr(decoder, "layers", None), nn.ModuleList) or not layers:
        fault = f"its decoder {name} has no layers"
    if fault:
        return DecoderStructure(fault, fault, fault)
    fault = _layers_fault(decoder)
    if fault:
        return DecoderStructure("", fault, fault)
    seen, fault = _first_attention(decoder)
    return DecoderStructure("", fault, fault or _own_fault(decoder.layers[0], seen))


def _layers_fault(decoder: Any) -> str:
    """Return the reason why the attention of a layer cannot be found; "" if all can."""
    name, types = type(decoder).__name__, getattr(decoder.config, "layer_types", None) or []
    others = sorted(set(types) - {*ATTENDING, "sliding_attention"})  # windows are checked in models/checks.py
    if others:
        return f"its decoder {name} has layers of {', '.join(others)}"
    if not isinstance(getattr(getattr(decoder, "rotary_emb", None), "inv_freq", None), Tensor):
        return f"its decoder {name} has no one rotary_emb for all layers"
    for layer in decoder.layers:
        if not hasattr(getattr(layer, "self_attn", None), "config"):
            return f"its decoder's {type(layer).__name__} has no self_attn"
    return ""


@dataclass
class _Seen:
    """Inputs of the first layer's attention, and the output of the layer's input_layernorm before it."""

    attention: nn.Module
    hidden: Any = None
    normed: Any = None
    rotary: Any = None


class _Reached(Exception):
    """Raised to end the run at the first attention, after which a decoder may do what the meta device cannot."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


def _stop(
    _module: nn.Module, _query: Tensor, _key: Tensor, _value: Tensor, _mask: Tensor | None = None, **arguments: Any
) -> tuple[Tensor, None]:
    raise _Reached(arguments)


AttentionInterface.register(KERNEL, _stop)


def _first_attention(decoder: Any) -> tuple[_Seen, str]:
    """Return the inputs of layer 0's attention, and the reason why its rows cannot be read; "" if they can."""
    layer = decoder.layers[0]
    attention, seen = layer.self_attn, _Seen(layer.self_attn)
    name = type(attention).__name__

    def before_layer(_layer: nn.Module, _args: tuple, kwargs: dict[str, Any]) -> None:
        seen.rotary = kwargs.get("position_embeddings")

    def before_attention(_attention: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen.hidden = args[0] if args else kwargs.get("hidden_states")

    layer.register_forward_pre_hook(before_layer, with_kwargs=True)
    attention.register_forward_pre_hook(before_attention, with_kwargs=True)
    if hasattr(layer, "input_layernorm"):
        layer.input_layernorm.register_forward_hook(lambda _norm, _args, output: setattr(seen, "normed", output))
    for module in (decoder, attention):  # most share one config; transformers makes no mask for an unknown kernel
        module.config._attn_implementation_internal = KERNEL
    embeds = torch.empty(1, TOKENS, decoder.get_input_embeddings().embedding_dim, device="meta")
    try:
        decoder(inputs_embeds=embeds, use_cache=False)
    except _Reached as reached:
        return seen, _rows_fault(name, reached.arguments) or _rotary_fault(seen.rotary, decoder)
    except (RuntimeError, NotImplementedError) as error:  # something before the attention needs real weights
        return seen, f"its decoder {type(decoder).__name__} cannot be examined ({said(error)})"
    return seen, f"its decoder's {name} does not use transformers' attention interface"


def _rows_fault(name: str, arguments: dict[str, Any]) -> str:
    """Return the reason why a kernel's rows are not softmax(scaling q.k); "" if they are, a sliding window aside."""
    if arguments.get("scaling") is None:
        return f"its decoder's {name} does not say what it multiplies q.k by"
    given = {argument for argument, value in arguments.items() if value is not None}
    others = sorted(given - PLAIN - {"sliding_window"})
    return f"its decoder's {name} attends with {', '.join(others)}, not by q.k alone" if others else ""


def _rotary_fault(rotary: Any, decoder: Any) -> str:
    """Return the reason why a layer's positions cannot be set from outside; "" if they are cos and sin."""
    if isinstance(rotary, tuple) and len(rotary) == 2 and all(isinstance(part, Tensor) for part in rotary):
        return ""
    return f"layers of its decoder {type(decoder).__name__} are not given cos and sin (position_embeddings)"


def _own_fault(layer: Any, seen: _Seen) -> str:
    """Return the reason why a layer's attention cannot be read before the layer runs; "" if it can be."""
    name = type(layer).__name__
    if seen.normed is None or seen.normed is not seen.hidden:
        return f"attention in its decoder's {name} does not read the output of input_layernorm"
    try:
        inspect.signature(seen.attention.forward).bind(**dict.fromkeys(ARGUMENTS))
    except TypeError as error:
        return f"attention in its decoder's {name} cannot be called alone ({error})"
    return ""
