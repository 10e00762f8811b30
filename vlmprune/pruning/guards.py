"""Uses of generate() in which a shortened cache would give wrong tokens silently: refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlmprune.pruning.shadow import Shadow


def guard_generate(model: Any, *, inside_decoder: bool) -> Shadow:
    """Check the arguments of every `model.generate` until the shadow is removed."""

    def wrap(generate: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            refuse(kwargs, kwargs.get("generation_config") or model.generation_config, inside_decoder)
            return generate(*args, **kwargs)

        return guarded

    return Shadow(model, "generate", wrap)


def refuse(kwargs: dict[str, Any], config: Any, inside_decoder: bool) -> None:
    """Raise NotImplementedError where these arguments of generate() cannot work while tokens are pruned."""
    for name in ("assistant_model", "prompt_lookup_num_tokens", "prefill_chunk_size"):
        if kwargs.get(name, getattr(config, name, None)) is not None:
            raise NotImplementedError(f"generate({name}=...) does not work while tokens are pruned")
    if not inside_decoder:
        return
    if kwargs.get("use_cache", config.use_cache) is False:
        raise NotImplementedError("use_cache=False inside the decoder: every step would prune anew")
    implementation = kwargs.get("cache_implementation", getattr(config, "cache_implementation", None))
    if implementation not in (None, "dynamic"):
        raise NotImplementedError(f"cache_implementation='{implementation}' inside the decoder: use dynamic")
