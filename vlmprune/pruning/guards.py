"""Uses of generate() in which a shortened cache would give wrong tokens silently: refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlmprune.pruning.shadow import Shadow


def guard_generate(model: Any, *, scores_inside: bool, drops_inside: bool) -> Shadow:
    """Check the arguments of every `model.generate` until the shadow is removed.

    scores_inside, drops_inside: whether tokens are scored and dropped by decoder layers.
    """

    def wrap(generate: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None) or model.generation_config
            refuse(kwargs, config, scores_inside, drops_inside)
            return generate(*args, **kwargs)

        return guarded

    return Shadow(model, "generate", wrap)


def refuse(kwargs: dict[str, Any], config: Any, scores_inside: bool, drops_inside: bool) -> None:
    """Raise NotImplementedError where these arguments of generate() cannot work while tokens are pruned."""
    for name in ("assistant_model", "prompt_lookup_num_tokens", "prefill_chunk_size"):
        if kwargs.get(name, getattr(config, name, None)) is not None:
            raise NotImplementedError(f"generate({name}=...) does not work while tokens are pruned")
    if kwargs.get("guidance_scale", getattr(config, "guidance_scale", None)) not in (None, 1):
        raise NotImplementedError(
            "generate(guidance_scale=...) does not work while tokens are pruned: it fills two caches"
        )
    if scores_inside and kwargs.get("use_cache", config.use_cache) is False:
        raise NotImplementedError("use_cache=False inside the decoder: every step would prune anew")
    implementation = kwargs.get("cache_implementation", getattr(config, "cache_implementation", None))
    if drops_inside and implementation not in (None, "dynamic"):
        raise NotImplementedError(f"cache_implementation='{implementation}' inside the decoder: use dynamic")


def refuse_labels(_model: Any, _args: tuple, kwargs: dict[str, Any]) -> None:
    """A forward pre-hook: logits are of the shorter prompt, so that labels of the full one do not fit."""
    if kwargs.get("labels") is not None:
        raise NotImplementedError("labels= while tokens are pruned: logits are of the shortened prompt")
