"""The `with` block around plain `model.generate(...)` or `model(...)`.

A session installs a method's hooks, turns each prefill into a shorter one, keeps decode steps in line with it, records
what was kept, and leaves the model exactly as it was found.
"""

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from vlmprune.methods.base import DecoderMethod, Method, SequenceMethod, VisionMethod
from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.clock import Clock, NoClock
from vlmprune.pruning.compaction import compact
from vlmprune.pruning.decoder import DecoderStages
from vlmprune.pruning.prompt import Record, Segment, full_positions, new_positions, real_tokens
from vlmprune.pruning.sequence import SequenceStage
from vlmprune.pruning.vision import VisionStage

_active: WeakSet[nn.Module] = WeakSet()


class Session:
    """Prunes every forward pass of one model while it is open. Make it with `vlmprune.prune`.

    Raises RuntimeError on nesting, on an attempt to continue a cache that this session did not fill, and on features
    that are not finite; NotImplementedError by name for what cannot work (assisted decoding, chunked prefill).
    """

    def __init__(self, adapter: Adapter, method: Method, clock: Clock | None = None) -> None:
        self.adapter, self.method = adapter, method
        self.clock: Clock = clock or NoClock()
        self.record: Record | None = None
        self._own_generate: dict[str, Any] | None = None  # what `generate` was on the instance, while it is guarded
        self._handles: list[Any] = []
        self._sequence: SequenceStage | None = None
        self._decoder: DecoderStages | None = None
        self._visual: Tensor | None = None
        self._segment: Segment | None = None
        self._cache: Any = None

    def __enter__(self) -> Session:
        model = self.adapter.model
        if model in _active:
            raise RuntimeError("this model is already being pruned: leave the first `with prune(...)` before the next")
        _active.add(model)
        try:
            self._install()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def owners(self) -> Tensor | None:
        """int64 [images, N]: the output token that each patch is part of, where tokens merge inside the encoder."""
        return getattr(self._sequence, "owners", None)

    def _install(self) -> None:
        tower = self.adapter.tower
        method, n = self.method, tower.grid[0] * tower.grid[1]
        base, language_model = self.adapter.base_model, self.adapter.language_model
        self._handles.append(base.register_forward_pre_hook(self._see_prompt, with_kwargs=True))
        self._handles.append(language_model.register_forward_pre_hook(self._shorten, with_kwargs=True))
        if method.keeps_all(n):
            return
        if isinstance(method, SequenceMethod):
            self._sequence = SequenceStage(self.adapter, method, self.clock)
            self._sequence.install()
        elif isinstance(method, VisionMethod):
            self._sequence = VisionStage(self.adapter, method, self.clock)
            self._sequence.install()
        elif isinstance(method, DecoderMethod):
            self._decoder = DecoderStages(self.adapter, method, self.clock)
            self._decoder.install()
        else:
            raise NotImplementedError(f"{type(method).__name__}: no engine for stage '{method.stage}'")
        self._guard_generate()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        for stage in (self._sequence, self._decoder):
            if stage is not None:
                stage.remove()
        if self._own_generate is not None:
            del self.adapter.model.generate
            vars(self.adapter.model).update(self._own_generate)
        self._handles, self._own_generate = [], None
        self._segment = self._cache = self._visual = None
        _active.discard(self.adapter.model)

    def _guard_generate(self) -> None:
        """Refuse, by name, the uses of generate() in which a shortened cache would give wrong tokens silently."""
        model, generate = self.adapter.model, self.adapter.model.generate
        self._own_generate = {k: v for k, v in vars(model).items() if k == "generate"}

        @functools.wraps(generate)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            config = kwargs.get("generation_config") or model.generation_config
            for name in ("assistant_model", "prompt_lookup_num_tokens", "prefill_chunk_size"):
                if kwargs.get(name, getattr(config, name, None)) is not None:
                    raise NotImplementedError(f"generate({name}=...) does not work while tokens are pruned")
            if self._decoder is not None and kwargs.get("use_cache", config.use_cache) is False:
                raise NotImplementedError("use_cache=False inside the decoder: every step would prune anew")
            static = kwargs.get("cache_implementation", getattr(config, "cache_implementation", None))
            if self._decoder is not None and static not in (None, "dynamic"):
                raise NotImplementedError(f"cache_implementation='{static}' inside the decoder: use dynamic")
            return generate(*args, **kwargs)

        model.generate = guarded

    def _see_prompt(self, _base: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        input_ids = args[0] if args else kwargs.get("input_ids")
        self._visual = None if input_ids is None else self.adapter.visual_mask(input_ids)

    def _shorten(self, _lm: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        cache = kwargs.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        if cached == 0:
            kwargs = self._prefill(kwargs)
            self._cache = cache
        elif self._sequence is not None or self._decoder is not None:
            kwargs = self._decode(kwargs, cached)
        return args, kwargs

    def _prefill(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        visual, mask = self._visual, kwargs.get("attention_mask")
        if visual is None:
            if self._sequence is None and self._decoder is None:
                return kwargs
            raise NotImplementedError("inputs_embeds cannot be pruned: pass input_ids and pixel_values")
        embeds = kwargs["inputs_embeds"]
        real = torch.ones_like(visual) if mask is None else real_tokens(mask, visual.shape[1])
        drop = torch.zeros_like(visual) if self._sequence is None else embeds[..., 0].isnan()
        keep = real & ~drop
        # The one host sync of a prefill: lengths decide the shapes of everything that follows.
        facts = torch.stack([keep.sum(1), (visual & keep).sum(1), drop.sum(1), real[:, -1].long()]).tolist()
        lengths, visual_counts, dropped, ends_real = facts
        self.record = Record(None, None, [visual_counts] * self.adapter.decoder_depth, lengths)
        if self._sequence is None and self._decoder is None:
            return kwargs
        if not all(ends_real):
            raise ValueError("prompts must be padded on the left (processor.tokenizer.padding_side = 'left')")
        if self._sequence is not None and (any(dropped) or any(visual_counts)):
            self._check_finite(self._sequence, sum(dropped), sum(dropped) + sum(visual_counts))
            self.record.kept, self.record.valid = self._sequence.kept()

        positions = full_positions(kwargs, embeds.shape[1], embeds.device)
        last = positions[:, -1:].expand(len(embeds), 1)
        if any(dropped):
            rule = self.method.positions
            with self.clock("selection"):
                plan = compact(keep, lengths)
                shorter, shift = new_positions(positions, ~drop, plan, rule)
                kwargs = kwargs | {"inputs_embeds": plan.gather_hidden(embeds), "position_ids": shorter}
            # Gapped positions without a mask would be read as packed sequences (transformers' masking_utils).
            gapped = plan.valid is None and rule == "keep"
            kwargs["attention_mask"] = torch.ones_like(shorter) if gapped else plan.valid
            self._segment = Segment(0, plan.index.shape[1], plan.valid, last + 1 - shift, visual_counts)
            visual = plan.gather_flags(visual)
        else:
            valid = None if mask is None else real
            self._segment = Segment(0, embeds.shape[1], valid, last + 1, visual_counts)
        if self._decoder is not None:
            self._decoder.begin(self._segment, visual, self.record)
        return kwargs

    @staticmethod
    def _check_finite(stage: SequenceStage, marked: int, slots: int) -> None:
        """Dropped slots are marked NaN: any other NaN must not pass for a dropped token.

        The share of marked slots is compared, not their number, because beam search repeats every row.
        """
        if marked * stage.slots != stage.dropped * slots:
            raise RuntimeError(
                f"{marked} of {slots} visual embeddings are not finite where {stage.dropped} of {stage.slots} were "
                "dropped: the vision tower or projector overflowed (try dtype=bfloat16 or float32)"
            )

    def _decode(self, kwargs: dict[str, Any], cached: int) -> dict[str, Any]:
        if kwargs.get("past_key_values") is not self._cache or self._segment is None:
            raise RuntimeError("this KV cache was filled outside the session: prefill inside `with prune(...)`")
        embeds, segment = kwargs["inputs_embeds"], self._segment
        new = embeds.shape[1]
        if self._sequence is not None and new > 1 and embeds.isnan().any():
            raise NotImplementedError("images in a later turn of a cached conversation: start a new cache")
        if self._decoder is not None:
            if new > 1:
                raise NotImplementedError("reusing a cache for a second prompt with a method inside the decoder")
            self._decoder.step()
        return kwargs | {
            "attention_mask": segment.mask(cached + new),
            "position_ids": segment.positions(cached, new),
        }
