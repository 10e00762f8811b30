"""The decoder's forward pass as CUDA graphs: of prompts, of what goes on from them, and of decode steps.

A short prompt is a thousand kernels that take less time to run than to launch; captured once, they are one launch. A
graph belongs to one shape and one place in memory. So pruned prompts are padded on the left to a multiple of
`MULTIPLE`, keys and values lie in a place of fixed size that is used again batch after batch, and masks are as long as
that place.

Only `language_model.forward` is compiled, by a shadow before it. The session's hooks stand around that call and stay
plain Python, and so do generate(), encoder and selection: what is kept and recorded is the same as without.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, StaticCache

from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.shadow import Shadow

# Arguments of the decoder that a compiled call takes; the last one is for the head behind it.
TAKEN = ("inputs_embeds", "position_ids", "attention_mask", "past_key_values", "use_cache", "logits_to_keep")
MULTIPLE = 32  # tokens that a prompt's length is rounded up to
ROOM = 256  # tokens that a place's size is rounded up to


class Place(StaticCache):
    """Keys and values where graphs find them. holder: the cache that lies there."""

    holder: FixedCache | None = None


class FixedCache(Cache):
    """A KV cache for one generate() of at most `new_tokens`, which takes its place when the prompt's length is known.

    generate() treats it as any other: it makes no 4-D mask for it and compiles nothing by itself. seen: tokens in it,
    known on the host.
    """

    def __init__(self, new_tokens: int) -> None:
        super().__init__(layers=[])
        self.new_tokens, self.seen = new_tokens, 0
        self.place: Place | None = None

    @property
    def is_compileable(self) -> bool:
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.seen

    def bind(self, place: Place) -> None:
        """Take an empty place, from which what an earlier cache held is gone."""
        self.place, self.layers = place, place.layers
        place.holder = self


class CompiledDecoder:
    """`with compiled:` the decoder runs compiled wherever generate() is given a `FixedCache`.

    backend: torch.compile's; None for inductor, on a GPU with CUDA graphs.
    """

    def __init__(self, adapter: Adapter, backend: str | None = None) -> None:
        self.adapter = adapter
        options: dict[str, Any] = {} if backend is None else {"backend": backend}
        if backend is None and adapter.model.device.type == "cuda":
            options["mode"] = "reduce-overhead"
        # Compiled before any shadow stands there.
        self._compiled = torch.compile(adapter.language_model.forward, **options)
        self._places: dict[tuple[int, int], Place] = {}  # by rows and tokens
        self._shadow: Shadow | None = None

    def __enter__(self) -> CompiledDecoder:
        self._shadow = Shadow(self.adapter.language_model, "forward", self._around)
        return self

    def __exit__(self, *_: object) -> None:
        if self._shadow is not None:
            self._shadow.remove()
            self._shadow = None

    def seat(self, cache: FixedCache, rows: int, tokens: int) -> None:
        """Give an empty cache its place, for `rows` prompts of `tokens` tokens and the answers to them."""
        size = -(-(tokens + cache.new_tokens) // ROOM) * ROOM
        if (rows, size) not in self._places:
            model = self.adapter.model
            config = model.config.get_text_config()
            place = Place(config=config, max_cache_len=size)
            heads = config.num_key_value_heads or config.num_attention_heads
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            with torch.inference_mode(False):  # whose tensors a graph cannot write to later
                place.early_initialization(rows, heads, width, model.dtype, model.device)
            self._places[rows, size] = place
        place = self._places[rows, size]
        place.reset()
        cache.bind(place)

    def _around(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            cache = kwargs.get("past_key_values")
            if not isinstance(cache, FixedCache):
                return plain(*args, **kwargs)
            others = sorted(name for name, given in kwargs.items() if name not in TAKEN and given is not None)
            if others:
                raise NotImplementedError(f"a compiled decoder is not given {', '.join(others)}")
            embeds, positions = kwargs["inputs_embeds"], kwargs["position_ids"]
            new = embeds.shape[1]
            if cache.place is None:
                self.seat(cache, len(embeds), new)
            place = cache.place
            assert place is not None
            cache.seen += new
            if place.holder is not cache:
                raise RuntimeError("the place of this KV cache was taken by a later prompt: start a new cache")
            if cache.seen > place.get_max_length():
                raise RuntimeError(f"a FixedCache of {cache.new_tokens} new tokens was asked for more of them")
            mask = whole_mask(kwargs.get("attention_mask"), embeds, cache.seen, place.get_max_length())
            if new > 1:  # of any length; a decode step is a graph of its own
                torch._dynamo.mark_dynamic(embeds, 1)
                torch._dynamo.mark_dynamic(positions, positions.dim() - 1)
            torch.compiler.cudagraph_mark_step_begin()  # what the last call returned has been used
            # A session lets nothing run compiled, because hooks would be passed by: here they stand around the call.
            with torch.compiler.set_stance("default"):
                # Of the arguments only what is the same in every call.
                output = self._compiled(
                    inputs_embeds=embeds,
                    position_ids=positions,
                    attention_mask=mask,
                    past_key_values=place,
                    use_cache=True,
                )
            output.past_key_values = cache
            return output

        return forward


def whole_mask(mask: Tensor | None, embeds: Tensor, seen: int, size: int) -> Tensor:
    """bool [B, size]: the tokens of a place that may be seen at all; those that are still to come are not."""
    if mask is None:
        mask = torch.ones(len(embeds), seen, dtype=torch.bool, device=embeds.device)
    return pad(mask.bool(), (0, size - mask.shape[1]))


def decoder_of(compiled: CompiledDecoder | None) -> AbstractContextManager[Any]:
    """`with decoder_of(compiled):` the decoder runs compiled, or as it is where there is None."""
    return nullcontext() if compiled is None else compiled
