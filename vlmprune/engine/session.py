"""The `with` block around plain `model.generate(...)` or `model(...)`.

A session installs a method's hooks, shortens each prefill, gives later steps and turns the matching masks and
positions, records the kept tokens, and restores the model exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from vlmprune.engine.adapter import ModelInterface, TextRelevance
from vlmprune.engine.compiled import PROMPT_MULTIPLE, FixedCache
from vlmprune.engine.encoding_cache import EncodingStore
from vlmprune.engine.generate_checks import (
    PrunedModels,
    ThreadOwnership,
    refuse_checkpointing,
    refuse_full_prompt,
    refuse_generation,
    warn_of_compiled,
)
from vlmprune.engine.hooks import MethodPatch, refuse_copy
from vlmprune.engine.kv_cache import Presses, held_bytes
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.prefill import Prefill
from vlmprune.engine.prompt_state import Conversation, Record, Segment, full_mask
from vlmprune.engine.signals import SignalReader
from vlmprune.engine.stages import MethodHooks
from vlmprune.engine.timing import Clock, SelectionTimer
from vlmprune.methods.base import Method

TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")  # arguments with one entry per token

_pruned_models = PrunedModels()


class Session:
    """Prunes every forward pass of one model while it is open. Made by `vlmprune.prune`.

    record: result of the last prefill (kept slots, counts of each layer, selection_ms). segment: its shortened prompts
    at decoder layer 0. text_tower: needed by methods that read text_relevance, which also need `ask`. features: store
    of encodings, for the tiles that `show` names. observer: told of every selection.

    A filled cache keeps a description of its prompts: with a method before the language model a later turn continues
    it, in this session or another of the same method, by generate() with the new ids or all of them. A prefix without
    an image may also be cached outside a session.
    One thread at a time uses a session. The end of the block waits for a generation that still runs in another thread;
    an error that ends the block stops it. Compiled code runs uncompiled while any session is open.

    Raises RuntimeError on nesting, on use by two threads, on a copy of the model, on features or scores that are not
    finite, on a cache that holds something else, and if the hooks were not called; NotImplementedError by name for
    features that cannot work (assisted decoding, chunked prefill, custom 4-D masks, gradient checkpointing).
    """

    def __init__(
        self,
        adapter: ModelInterface,
        method: Method,
        clock: Clock | None = None,
        text_tower: TextRelevance | None = None,
        features: EncodingStore | None = None,
        observer: SelectionObserver | None = None,
    ) -> None:
        self.adapter, self.method, self.text_tower, self.features = adapter, method, text_tower, features
        self.observer = observer
        self.record: Record | None = None
        self.segment: Segment | None = None
        self._timer = SelectionTimer(adapter.model.device, clock)
        self._handles: list[Any] = []
        self._hooks, self._presses = MethodHooks(), Presses(adapter)
        self._hooked: list[nn.Module] = []
        self._named = repr(method)
        self._use = ThreadOwnership(self._remove)
        # State of the running forward pass, or of the generate() around it.
        self._visual: Tensor | None = None  # bool [B, L], of the new ids
        self._ids: Tensor | None = None
        self._mask: Any = None
        self._generating = self._reached = self._starts = False
        self._prefix: Any = None  # a cache that was filled outside the session and holds no image
        self._prefilled: Conversation | None = None

    def __enter__(self) -> Session:
        _pruned_models.add(self.adapter.model)
        try:
            warn_of_compiled(self.adapter.model)
            self._install()
        except BaseException:
            self._remove()
            raise
        self._use.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._use.close(wait=kind is None)

    __deepcopy__ = __reduce_ex__ = refuse_copy

    @property
    def owners(self) -> Tensor | None:
        """int64 [images, N]: index of the merged token of each patch; None for methods that do not merge patches."""
        return self._hooks.owners

    @property
    def reader(self) -> SignalReader | None:
        """The reader of the method's encoder signals; None if no part acts before the language model."""
        return None if self._hooks.sequence is None else self._hooks.sequence.reader

    @property
    def only_reads_encoder(self) -> bool:
        """True if the encoder computes the same as without the session: no merging, and no encoding store."""
        return self._hooks.cached_encoder is None and not self._hooks.changes_encoder

    def ask(self, questions: list[str]) -> None:
        """Set the questions of the next forward pass or generate(), one per prompt, for the signal text_relevance."""
        if self._hooks.sequence is not None:
            self._hooks.sequence.questions = questions

    def show(self, tiles: list[str]) -> None:
        """Set the content keys of the next encoding's tiles; tiles in the encoding store are not computed again."""
        if self._hooks.cached_encoder is not None:
            self._hooks.cached_encoder.keys = tiles

    @property
    def _shortens(self) -> bool:
        """True if caches get less than the prompts: tokens are dropped, or a press of kvpress compresses."""
        return self._hooks.drops_tokens or self._presses.press is not None

    def _install(self) -> None:
        model, base, language_model = self.adapter.model, self.adapter.base_model, self.adapter.language_model
        self._hooks = MethodHooks()
        self._handles.append(model.register_forward_pre_hook(self._check_arguments, with_kwargs=True))
        self._handles.append(MethodPatch(model, "generate", self._wrap_generate))
        self._handles.append(MethodPatch(model, "prepare_inputs_for_generation", self._wrap_preparation))
        self._handles.append(MethodPatch(model, "_prepare_position_ids_for_generation", self._wrap_positions))
        self._handles.append(MethodPatch(base, "forward", self._wrap_forward))
        self._handles.append(language_model.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
        self._hooks.build(self.adapter, self.method, self._timer, self.text_tower, self.observer)
        self._handles += self.adapter.prepare(self._hooks.sequence is not None)
        self._hooks.install(self.adapter, self.features)
        self._handles += [MethodPatch(base, encoder, self._wrap_encoder) for encoder in self.adapter.encoders]
        self._handles.append(language_model.register_forward_hook(self._after_decoder))
        if self._hooks.drops_tokens:
            self._hooked = self._hooks.hooked_layers(self.adapter)

    def _remove(self) -> None:
        try:
            for handle in self._handles:
                handle.remove()
            self._hooks.remove()
            self._presses.remove()
        finally:
            self._handles = []
            self.segment = self._prefilled = None
            _pruned_models.discard(self.adapter.model)

    def _wrap_generate(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._use:
                if self._shortens:
                    config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)
                    config = config or self.adapter.model.generation_config
                    refuse_generation(kwargs, config, drops_inside=self._hooks.decoder is not None)
                self._generating, self._reached = True, False
                self._hooks.set_prompts(args[0] if args else kwargs.get("input_ids"))
                try:
                    output = generate(*args, **kwargs)
                finally:
                    self._generating, self._mask, self._prefix = False, None, None
                    self._hooks.clear_counts()
                self._check_reached()
                return output

        return guarded

    def _wrap_encoder(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._use:
                return encode(*args, **kwargs)

        return guarded

    def _wrap_preparation(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Correct what generate() derives from the length of a shortened cache, and keep its attention mask."""

        def prepared(input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
            self._mask = kwargs.get("attention_mask")
            if self._hooks.selects_in_decoder and kwargs.get("use_cache") is False:
                raise NotImplementedError("use_cache=False inside the decoder: every step would prune anew")
            cache, starts = kwargs.get("past_key_values"), kwargs.get("is_first_iteration", False)
            cached = int(cache.get_seq_length()) if starts and cache is not None else 0
            if not cached or kwargs.get("inputs_embeds") is not None:
                return prepare(input_ids, *args, **kwargs)
            self._starts = True
            if kwargs.get("next_sequence_length") is not None:
                kwargs["next_sequence_length"] = self._new_ids(input_ids, self._mask, cache, cached)
            inputs = prepare(input_ids, *args, **kwargs)
            if self.adapter.visual_mask(inputs["input_ids"]).any():
                return inputs
            return {name: value for name, value in inputs.items() if name not in self._media}  # media of earlier turns

        return prepared

    def _wrap_positions(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Compute positions of the new tokens alone where a filled cache is continued; `Prefill` shifts them.

        transformers would derive mrope positions from the last prompt of the model, which may be another one.
        """

        def prepared(inputs: Tensor, kwargs: dict[str, Any]) -> Tensor:
            cache = kwargs.get("past_key_values")
            cached = 0 if cache is None else int(cache.get_seq_length())
            if not cached or not self._shortens or kwargs.get("inputs_embeds") is not None:
                return prepare(inputs, kwargs)
            new = self._new_ids(inputs, kwargs.get("attention_mask"), cache, cached)
            own = {name: value[:, -new:] for name, value in kwargs.items() if name in TOKENS and value is not None}
            return prepare(inputs[:, -new:], {**kwargs, **own, "past_key_values": None})

        return prepared

    @property
    def _media(self) -> set[str]:
        """Names of the arguments that the encoders take, and of encoded media."""
        encoders = [getattr(self.adapter.base_model, name) for name in self.adapter.encoders]
        return {"mm_encoder_outputs"}.union(*(inspect.signature(encoder).parameters for encoder in encoders))

    def _new_ids(self, ids: Tensor, mask: Tensor | None, cache: Any, cached: int) -> int:
        """Count those of the `ids` given to generate() that are not in the cache. mask: over all tokens."""
        if mask is not None and mask.shape[1] != ids.shape[1]:
            return ids.shape[1]  # the caller gave the new ones alone
        held = Conversation.from_cache(cache, cached)
        if held is None:
            if not self.adapter.visual_mask(ids[:, :cached]).any():
                self._prefix = cache
            elif self._shortens:
                raise RuntimeError("this KV cache holds an image that was prefilled outside the session, unpruned")
            return ids.shape[1] - cached
        held = held.in_cache_order(cache)
        if not held.is_prefix_of(ids, None if mask is None else mask.bool()):
            raise RuntimeError("these input_ids do not begin with the prompt that this KV cache holds")
        new = ids.shape[1] - held.tokens(cached)
        if new < 1:
            raise RuntimeError(
                f"{ids.shape[1]} input_ids for a KV cache that holds a conversation of {held.tokens(cached)} tokens: "
                "give all of its ids and the new ones, or the new ones and an attention_mask over all"
            )
        return new

    def _check_arguments(self, _model: nn.Module, _args: tuple, kwargs: dict[str, Any]) -> None:
        if self._shortens:
            refuse_full_prompt(kwargs)

    def _wrap_forward(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._use:
                refuse_checkpointing(self._hooked)
                self._ids = args[0] if args else kwargs.get("input_ids")
                self._visual = None if self._ids is None else self.adapter.visual_mask(self._ids)
                self._reached = False
                self._hooks.set_prompts(self._ids)
                if self._shortens and kwargs.get("past_key_values") is not None:
                    self.adapter.clear_positions()
                try:
                    output = forward(*args, **kwargs)
                    self._check_reached()
                    self._hooks.check()
                finally:
                    self._visual = self._ids = None
                    self._starts = False
                    if not self._generating:
                        self._hooks.clear_counts()
                return output

        return guarded

    def _check_reached(self) -> None:
        if not self._reached:
            raise RuntimeError(
                "the session's hooks did not run, so that nothing was pruned: something calls the model's parts past "
                "their hooks (a compiled or exported model, a forward() called by itself)"
            )

    def _after_decoder(self, _lm: nn.Module, _args: tuple, output: Any) -> None:
        intervals = self._timer.pop_intervals()
        cache = getattr(output, "past_key_values", None)  # given by the caller, or made by the model
        if self.record is not None and self.record.kv_cache_bytes is None:
            self.record.kv_cache_bytes = held_bytes(cache)
        if self._prefilled is not None and self.record is not None:
            self.record.selection = intervals
            if cache is not None:
                self._presses.describe(self._prefilled, cache).with_ends(cache).attach_to(cache)
            self._prefilled = None

    def _before_decoder(self, _lm: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        self._reached = True
        cache, visual = kwargs.get("past_key_values"), self._visual
        self._presses.serve(cache, restarts=self._hooks.restart is not None)
        cached = 0 if cache is None else int(cache.get_seq_length())
        held = self._cached_conversation(cache, cached) if cached else None
        if cached and not self._shortens:
            return args, kwargs
        new = 0 if visual is None else visual.shape[1]
        if visual is None and self._shortens:
            raise NotImplementedError(
                "inputs_embeds cannot be pruned, nor the language model by itself: give the model input_ids and "
                "pixel_values"
            )
        starts = new > 1 or self._starts
        if cached and (held is None or starts) and self._hooks.selects_in_decoder:
            raise NotImplementedError(
                "continuing a filled cache with a method inside the language model: what it keeps is chosen by the "
                "end of the whole prompt; start a new cache"
            )
        if held is None or (starts and visual is not None and visual.any()):
            return args, self._prefill(kwargs, held, cached)
        if starts or not self._generating:  # within generate(), beam search only moves rows that share a prompt
            held = held.in_cache_order(cache)
        return args, self._continue_cache(kwargs, held, cached, starts)

    def _cached_conversation(self, cache: Any, cached: int) -> Conversation | None:
        """Return the conversation in a filled cache; None for a text prefix that was cached outside a session.

        Raises RuntimeError if this session cannot continue it.
        """
        held = Conversation.from_cache(cache, cached)
        if held is not None and held.method not in (None, self._named):
            raise RuntimeError(
                f"this KV cache was filled while {held.method} pruned: continue with that method, or start a new cache"
            )
        if held is None and self._shortens and cache is not self._prefix:
            raise RuntimeError(
                "this KV cache was filled outside the session, and nothing says that it holds no unpruned image: "
                "prefill inside `with prune(...)`, or give generate() the ids of the whole conversation"
            )
        return held

    def _prefill(self, kwargs: dict[str, Any], held: Conversation | None, cached: int) -> dict[str, Any]:
        """Return the arguments for a shortened batch of prompts, which follow `cached` tokens of a cache."""
        hooks, adapter, visual = self._hooks, self.adapter, self._visual
        if visual is None:
            return kwargs
        if held is not None:
            held = held.in_cache_order(kwargs["past_key_values"])
        mask = self._given_mask(kwargs, visual.shape[1])
        if cached and held is None:
            held = Conversation.from_text_prefix(cached, mask, len(visual), kwargs.get("position_ids"))
        cache = kwargs.get("past_key_values")
        multiple = PROMPT_MULTIPLE if isinstance(cache, FixedCache) else 1
        marked = hooks.sequence is not None
        prompt = Prefill(kwargs, visual, mask, marked, adapter.decoder_depth, held, cached, multiple)
        self.record = prompt.record
        prompt.set_full_prompts(adapter.detail(visual) if "tiles" in self.method.needs else visual)
        self.segment = prompt.segment
        if not hooks.drops_tokens:
            prompt.record_all()
        if not self._shortens:
            return kwargs
        prompt.check_padding()
        if hooks.decoder is not None and (isinstance(cache, FixedCache) or getattr(cache, "is_compileable", False)):
            raise NotImplementedError(f"{type(cache).__name__} inside the decoder: use DynamicCache")
        if hooks.sequence is not None and any(prompt.slot_counts):
            prompt.check_finite(*hooks.sequence.encoded)
        with self._timer("selection"):
            if hooks.sequence is not None:
                prompt.drop_marked(adapter.position_rule(hooks.sequence.method))
            if hooks.restart is not None:
                prompt.drop_unselected(hooks.restart, adapter.position_rule(hooks.restart.method))
            self.segment, kwargs = prompt.segment, prompt.kwargs
            segments = {0: prompt.segment}
            if hooks.decoder is not None:
                kwargs = hooks.decoder.start_prefill(segments, prompt.state, prompt.record, kwargs)
        self._prefilled = prompt.conversation(segments, self._ids, self._named)
        return kwargs

    def _continue_cache(self, kwargs: dict[str, Any], held: Conversation, cached: int, starts: bool) -> dict[str, Any]:
        """Return the arguments for text after a prompt: a later turn that `starts`, or a decode step."""
        new = kwargs["inputs_embeds"].shape[1]
        if starts:
            held = held.at_turn_start(self._given_mask(kwargs, new), cached + new)
            held.attach_to(kwargs["past_key_values"])
        if self._hooks.decoder is not None:
            self._hooks.decoder.start_decode_step(held.segments)
        return kwargs | {
            "attention_mask": held.prompt.mask(cached + new, held.later),
            "position_ids": held.prompt.positions(cached, new, held.later),
        }

    def _given_mask(self, kwargs: dict[str, Any], new: int) -> Tensor | None:
        """Return bool [B, L] over all tokens, from the mask of generate() or the caller; None for no padding."""
        given = self._mask if self._generating and self._mask is not None else kwargs.get("attention_mask")
        if not self._shortens and not (isinstance(given, Tensor) and given.dim() == 2):
            return None
        return full_mask(given, new)
