"""Vision encoder and decoder as CUDA graphs: for images, prompts, questions after a cached prefix, and decode steps.

A short prompt takes a thousand kernels, each of which runs for less time than its launch takes; a CUDA graph launches
all of them at once. A graph is recorded for one shape and fixed memory addresses. So pruned prompts are padded on the
left to a multiple of `PROMPT_MULTIPLE`, and keys and values lie in a `KeyValueBuffer` of fixed size, reused by every
batch. The operations between two matrix products (norms, activations) are compiled into one kernel each, which takes
seconds; compiling whole decoders takes minutes.

Only `forward` of the language model and of the vision encoders is recorded, each through a `MethodPatch`. The session's
hooks on the decoder run around that call in plain Python, and so do generate() and selection: the kept tokens are the
same as without graphs. Signals that the session's probes read inside an encoder are outputs of its graph. On a CPU,
which has no graphs, the same passes are computed each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, StaticCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.hooks import MethodPatch
from vlmprune.engine.signals import SignalReader

if TYPE_CHECKING:
    from vlmprune.engine.session import Session


# Arguments that the compiled decoder accepts; the last one is for the head after it.
ACCEPTED_ARGUMENTS = (
    "inputs_embeds",
    "position_ids",
    "attention_mask",
    "past_key_values",
    "use_cache",
    "logits_to_keep",
)
PROMPT_MULTIPLE = 32  # tokens of which a prompt's length is a multiple
BUFFER_MULTIPLE = 256  # tokens of which a buffer's size is a multiple


class KeyValueBuffer(StaticCache):
    """Keys and values [B, H, `size`, d] of every layer, at fixed memory addresses for the graphs.

    seen: int64 [], tokens held before the current pass. at: int64 [n], indices that the current pass writes. valid:
    bool [B, size], False on padding. holder: the cache that uses this buffer.
    """

    def __init__(self, model: Any, rows: int, size: int) -> None:
        config, device = model.config.get_text_config(), model.device
        super().__init__(config=config, max_cache_len=size)
        heads = config.num_key_value_heads or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.early_initialization(rows, heads, width, model.dtype, device)
        self.seen = torch.zeros((), dtype=torch.long, device=device)
        self.columns = torch.arange(size, device=device)
        self.valid = torch.ones(rows, size, dtype=torch.bool, device=device)
        self.at: Tensor
        self.holder: FixedCache | None = None

    @property
    def size(self) -> int:
        return len(self.columns)

    def clear(self) -> None:
        """Set everything to zero: masked values are multiplied by 0, which would turn an infinity into NaN."""
        layers: list[Any] = self.layers
        torch._foreach_zero_([part for layer in layers for part in (layer.keys, layer.values)])
        self.valid.fill_(True)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        layer: Any = self.layers[layer_idx]
        layer.keys.index_copy_(2, self.at, key_states)
        layer.values.index_copy_(2, self.at, value_states)
        return layer.keys, layer.values

    def mask(self, new: int) -> Tensor:
        """Return bool [B, 1, new, size], True where a new token attends; padding attends to itself, to avoid NaN."""
        self.at = self.seen + self.columns[:new]
        rows, columns = self.at.unsqueeze(1), self.columns
        return (columns <= rows) & self.valid[:, None, None] | (columns == rows)


class FixedCache(Cache):
    """A KV cache for one generate() of at most `new_tokens`; a known prompt length gives it a `KeyValueBuffer`.

    generate() treats it as a dynamic cache: it makes no 4-D mask for it and compiles nothing. seen: tokens in it, on
    the host.
    """

    def __init__(self, new_tokens: int) -> None:
        super().__init__(layers=[])
        self.new_tokens, self.seen = new_tokens, 0
        self.buffer: KeyValueBuffer | None = None

    @property
    def is_compileable(self) -> bool:
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.seen

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values that were computed elsewhere, and return all of that layer."""
        layer: Any = self.layers[layer_idx]
        end = self.seen + key_states.shape[2]
        layer.keys[:, :, self.seen : end] = key_states
        layer.values[:, :, self.seen : end] = value_states
        if layer_idx == len(self.layers) - 1:
            self.seen = end
        return layer.keys, layer.values

    def bind(self, buffer: KeyValueBuffer) -> None:
        """Use `buffer` from now on, and clear it of an earlier cache's content."""
        self.buffer, self.layers = buffer, buffer.layers
        buffer.holder = self
        buffer.clear()


class GraphPass:
    """A forward pass over tensors with fixed memory addresses: a CUDA graph of `run` on a GPU.

    output: the result of the last call, overwritten by the next.
    """

    def __init__(self, run: Callable[[], Any], device: torch.device, pool: Any) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type != "cuda":
            return
        side = torch.cuda.Stream(device)  # kernels are chosen and compiled before they are recorded
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self.output = run()

    def __call__(self, run: Callable[[], Any]) -> Any:
        """Return the result of `run`, which must be the function that was recorded."""
        if self._graph is None:
            self.output = run()
        else:
            self._graph.replay()
        return self.output


class GraphEntry:
    """A pass of one shape, with the tensors that hold its arguments."""

    def __init__(self, *arguments: Tensor) -> None:
        self.arguments = [torch.empty_like(argument) for argument in arguments]
        self.replay: GraphPass

    def set_arguments(self, *arguments: Tensor) -> None:
        """Copy the arguments of the next pass into the recorded tensors."""
        for own, argument in zip(self.arguments, arguments, strict=True):
            own.copy_(argument)


class CompiledModel:
    """`with compiled:` vision encoders run compiled, and so does the decoder if generate() is given a `FixedCache`.

    backend: torch.compile's, for the operations between matrix products; None for inductor.
    """

    def __init__(self, adapter: ModelInterface, backend: str | None = None) -> None:
        self.adapter = adapter
        self._options: dict[str, Any] = {} if backend is None else {"backend": backend}
        self._fused: dict[type, Callable[..., Any]] = {}
        self._rows = 0
        self._buffers: dict[int, KeyValueBuffer] = {}  # by size in tokens
        self._recorded: dict[tuple[Any, ...], GraphEntry] = {}
        self._pool = torch.cuda.graph_pool_handle() if adapter.model.device.type == "cuda" else None
        self._patches: list[MethodPatch] = []
        self._reader: SignalReader | None = None
        self._towers = False

    def __enter__(self) -> CompiledModel:
        self._patches.append(MethodPatch(self.adapter.language_model, "forward", self._wrap_decoder))
        for index, tower in enumerate(self.adapter.vision_towers):
            self._patches.append(MethodPatch(tower, "forward", partial(self._wrap_encoder, index)))
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.remove()
        self._patches, self._reader, self._towers = [], None, False

    def attach(self, session: Session) -> None:
        """Record encoder passes too, with the signals that the open `session` reads, if it changes nothing there."""
        self._reader, self._towers = session.reader, session.only_reads_encoder

    def new_cache(self, new_tokens: int, rows: int, tokens: int) -> FixedCache:
        """Return an empty cache with a buffer, for `tokens` tokens of each row and `new_tokens` more."""
        cache = FixedCache(new_tokens)
        self.assign_buffer(cache, rows, tokens)
        return cache

    def assign_buffer(self, cache: FixedCache, rows: int, tokens: int) -> KeyValueBuffer:
        """Give a cache its buffer, for `rows` prompts of `tokens` tokens and the answers to them, and return it.

        Buffers and graphs are kept for one number of rows: a call with another number discards them.
        """
        if rows != self._rows:
            self._rows = rows
            self._buffers.clear()
            self._recorded.clear()
        size = -(-(tokens + cache.new_tokens) // BUFFER_MULTIPLE) * BUFFER_MULTIPLE
        if size not in self._buffers:
            with torch.inference_mode(False):
                self._buffers[size] = KeyValueBuffer(self.adapter.model, rows, size)
        buffer = self._buffers[size]
        cache.bind(buffer)
        return buffer

    def _wrap_decoder(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            cache = kwargs.get("past_key_values")
            if not isinstance(cache, FixedCache):
                return plain(*args, **kwargs)
            others = sorted(
                name for name, given in kwargs.items() if name not in ACCEPTED_ARGUMENTS and given is not None
            )
            if others:
                raise NotImplementedError(f"a compiled decoder is not given {', '.join(others)}")
            embeds, positions, mask = kwargs["inputs_embeds"], kwargs["position_ids"], kwargs.get("attention_mask")
            rows, new = embeds.shape[:2]
            buffer = cache.buffer or self.assign_buffer(cache, rows, new)
            if buffer.holder is not cache:
                raise RuntimeError("the place of this KV cache was taken by a later prompt: start a new cache")
            if cache.seen + new > buffer.size:
                raise RuntimeError(f"a FixedCache of {cache.new_tokens} new tokens was asked for more of them")
            buffer.seen.fill_(cache.seen)
            cache.seen += new
            if mask is not None:
                buffer.valid[:, : mask.shape[1]].copy_(mask)
            key = ("decoder", buffer.size, embeds.shape, positions.shape)
            hidden = self._replay(key, partial(self._decode, plain, buffer), embeds, positions)
            return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)

        return forward

    def _wrap_encoder(self, index: int, plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            reader, pixels = self._reader, args[0] if args else kwargs.pop("pixel_values")
            alone = len(args) <= 1 and not any(isinstance(given, Tensor) for given in kwargs.values())
            if not (self._towers and alone):  # the work of Qwen's encoder depends on the values of its grid argument
                return plain(pixels, *args[1:], **kwargs)
            signals = None if reader is None else (*reader.names(), *reader.method.needs)
            key = ("tower", index, pixels.shape, signals, repr(sorted(kwargs.items())))

            def encode(own: Tensor) -> tuple[Any, Any]:
                if reader is not None:
                    reader.clear()
                output = plain(own, **kwargs)
                return output, None if reader is None else reader.pop_signals()

            output, shown = self._replay(key, encode, pixels)
            if reader is not None:
                reader.add_signals(shown)
            return output

        return forward

    def _replay(self, key: tuple[Any, ...], run: Callable[..., Any], *arguments: Tensor) -> Any:
        """Return `run(*arguments)`, recorded at the first call with `key`; later calls must give the same `run`."""
        with torch.inference_mode(False), torch.no_grad():
            recorded = self._recorded.get(key) or GraphEntry(*arguments)
            recorded.set_arguments(*arguments)
            same = partial(run, *recorded.arguments)
            if key not in self._recorded:
                recorded.replay = GraphPass(same, arguments[0].device, self._pool)
                self._recorded[key] = recorded
            return recorded.replay(same)

    def _decode(self, plain: Callable[..., Any], buffer: KeyValueBuffer, embeds: Tensor, positions: Tensor) -> Tensor:
        seen = buffer.mask(embeds.shape[1])
        if self.adapter.model.config.get_text_config()._attn_implementation == "eager":
            seen = torch.zeros_like(seen, dtype=embeds.dtype).masked_fill(~seen, torch.finfo(embeds.dtype).min)
        with self._fusing():
            return plain(
                inputs_embeds=embeds,
                position_ids=positions,
                attention_mask=seen,
                past_key_values=buffer,
                use_cache=True,
            ).last_hidden_state

    @contextmanager
    def _fusing(self) -> Iterator[None]:
        """Run norms and feed-forward parts compiled, each kind of module once for all layers, within the block."""
        model, patches = self.adapter.language_model, []
        parts = [part for layer in model.layers for name, part in layer.named_children() if name != "self_attn"]
        for part in [*parts, model.norm]:
            kind = type(part)
            if kind not in self._fused:
                self._fused[kind] = torch.compile(kind.forward, **self._options)
            fused = partial(self._fused[kind], part)
            patches.append(MethodPatch(part, "forward", partial(_replacement, fused)))
        # A session disables compiled code, which skips hooks; these parts have no hooks.
        try:
            with torch.compiler.set_stance("default"):
                yield
        finally:
            for patch in patches:
                patch.remove()


def _replacement(other: Callable[..., Any], _plain: Callable[..., Any]) -> Callable[..., Any]:
    return other


def compiled_context(compiled: CompiledModel | None) -> AbstractContextManager[Any]:
    """Return a context in which the decoder runs compiled, or one that does nothing for None."""
    return nullcontext() if compiled is None else compiled
