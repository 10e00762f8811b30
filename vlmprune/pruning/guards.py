"""Uses of generate() in which a shortened cache would give wrong tokens silently: refused by name."""

from __future__ import annotations

import functools
from typing import Any


class GenerateGuard:
    """Stands before `model.generate`, as an instance attribute, until `remove`."""

    def __init__(self, model: Any, *, inside_decoder: bool) -> None:
        self.model = model
        self._own = {name: value for name, value in vars(model).items() if name == "generate"}
        generate = model.generate

        @functools.wraps(generate)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            refuse(kwargs, kwargs.get("generation_config") or model.generation_config, inside_decoder)
            return generate(*args, **kwargs)

        model.generate = guarded

    def remove(self) -> None:
        """Give the model back the generate() that it had, the class's or a user's own."""
        del self.model.generate
        vars(self.model).update(self._own)


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
