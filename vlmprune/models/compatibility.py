"""Pairs of method and model that cannot work, refused before any weight loads.

A LLaVA's decoder may be any language model of transformers. The engine hooks its layers, gives them positions by its
rotary embedding and reads attention rows as softmax(scaling q.k). With a decoder that works otherwise a session would
fail deep inside or read wrong rows, so that it is refused before weights load.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_utils import AttentionInterface
from transformers.utils import TransformersKwargs

from vlmprune.config.registry import build_method, find_choices, read_choice
from vlmprune.engine.contract import call_method
from vlmprune.engine.declarations import check_class, check_counts
from vlmprune.errors import IdleSetting, NotApplicable, UserError, error_text, user_error_on_failure
from vlmprune.methods.base import Method, NoAmount, Tower
from vlmprune.methods.compose import Compose
from vlmprune.methods.decoder_method import DecoderMethod
from vlmprune.models.base import MEDIA, Family

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


_structures: dict[str, DecoderStructure] = {}  # by config


def read_structure(text: Any) -> DecoderStructure:
    """Return the structure of the decoder with this config, in about 0.1 s, cached; no weight takes memory.

    text: the decoder's transformers config. Raises UserError if transformers cannot build it.
    """
    key = repr(text)
    if key not in _structures:
        config = copy.deepcopy(text)
        config._attn_implementation = None  # any that the decoder supports
        why = "text_config in the model's config.json: transformers cannot build it"
        with user_error_on_failure(why, "correct it"), torch.device("meta"):
            decoder = AutoModel.from_config(config).eval()
        _structures[key] = _structure(decoder)
    return _structures[key]


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
    others = sorted(set(types) - {*ATTENDING, "sliding_attention"})  # windows are checked in models/compatibility.py
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
        return seen, f"its decoder {type(decoder).__name__} cannot be examined ({error_text(error)})"
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


def check_pair(family: Family, method: Method, name: str, model: str) -> None:
    """Raise NotApplicable if the method needs signals that the model lacks; the error names methods that work."""
    check_class(method)
    missing = [need for need in method.needs if need not in family.signals]
    if missing:
        working = [
            other
            for other in find_choices("method")
            if set(read_choice("method", other)["info"]["needs"]) <= family.signals
        ]
        raise NotApplicable(
            f"method '{name}' needs {', '.join(missing)}, which model '{model}' does not have",
            f"; methods that work: {', '.join(working)}",
        )


def check_settings(method: Method, family: Family, depth: int, name: str) -> None:
    """Raise UserError or NotApplicable if a method's settings do not fit the model's depths and token count."""
    try:
        check_counts(method, family.tower, depth)
        call_method(method, "check", family.tower, depth)
        check_keep(method, family.tower)
        family.check(method)
        if family.sliding_window and "decoder_attention" in method.needs:
            raise ValueError(
                "drops tokens inside the decoder, which has sliding-window attention; allowed: methods before it"
            )
        if family.sliding_window and keeps_positions(method, family):
            raise ValueError(
                "positions=keep: the decoder has sliding-window attention, which counts tokens, not positions; "
                "allowed: positions=renumber where the model's positions can be"
            )
    except UserError:
        raise
    except NoAmount as error:  # not the model's fault
        raise UserError(f"method={name}: {error}") from error
    except ValueError as error:
        raise NotApplicable(f"method={name}: {error}") from error
    check_scope(method, family)
    check_decoder(method, family, name)


def check_scope(method: Method, family: Family, media: frozenset[str] = MEDIA) -> None:
    """Refuse a scope where nothing can be ranked together. media: the kinds that the questions show."""
    for part in method.parts(1):
        if (scope := getattr(part, "scope", "published")) != "published" and not family.ranks_together & media:
            kind = "".join(family.ranks_together)
            some = f"this model ranks tokens of a {kind} together, and the questions show none"
            raise IdleSetting(
                "scope", scope, some if kind else "this model ranks each picture, tile or frame by itself"
            )


def drop_default_positions(method: Method, family: Family) -> Method:
    """Return the method without a `positions=keep` that is this family's only way, so that it names the same run."""
    if isinstance(method, Compose):
        return replace(
            method,
            before=drop_default_positions(method.before, family),
            inside=drop_default_positions(method.inside, family),
        )
    return replace(method, positions="published") if family.keeps_positions and method.positions == "keep" else method


def keeps_positions(method: Method, family: Family) -> bool:
    """Return True if the method prunes and kept tokens keep the position ids that they had before."""
    pruning = [part for part in method.parts(1) if part.stage != "none"]
    return bool(pruning) and (family.keeps_positions or any(part.position_rule == "keep" for part in pruning))


def check_decoder(method: Method, family: Family, name: str) -> None:
    """Raise NotApplicable if the decoder's structure does not allow the method; the error names methods that work."""
    if family.text is None or method.stage == "none":
        return
    structure = read_structure(family.text)
    fault = decoder_fault(method, structure)
    if fault:
        others = [
            other
            for other in find_choices("method")
            if set(read_choice("method", other)["info"]["needs"]) <= family.signals
        ]
        working = [other for other in others if not decoder_fault(build_method(other), structure)]
        raise NotApplicable(f"method={name}: {fault}", f"; methods that work: {', '.join(working)}")


def decoder_fault(method: Method, structure: DecoderStructure) -> str:
    """Return the reason why the method cannot prune a decoder of this structure; "" if it can."""
    faults = []
    for part in method.parts(1):
        if isinstance(part, DecoderMethod):
            faults.append(structure.own if part.reads == "own" else structure.inside)
        elif part.stage != "none":
            faults.append(structure.before)
    return next(filter(None, faults), "")


def check_keep(method: Method, tower: Tower) -> None:
    """Raise ValueError if `keep` exceeds the tokens of every image or tile, so that nothing would be pruned."""
    n = tower.grid[0] * tower.grid[1]
    if method.keep is not None and method.keep > n and not tower.grid_varies and method.keeps_all(n):
        raise ValueError(f"keep={method.keep}: an image, tile or frame has {n} visual tokens; allowed: 0 to {n}")
