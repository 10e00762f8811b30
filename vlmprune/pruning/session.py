"""The `with` block around plain `model.generate(...)` or `model(...)`.

A session installs a method's hooks, turns each prefill into a shorter one, keeps decode steps in line with it, records
what was kept, and leaves the model exactly as it was found.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from vlmprune.methods.base import Method
from vlmprune.methods.decoder_base import DecoderMethod
from vlmprune.pruning.adapter import Adapter, TextTower
from vlmprune.pruning.clock import Clock, SelectionTimer
from vlmprune.pruning.features import FeatureStore
from vlmprune.pruning.guards import guard_generate, refuse_labels
from vlmprune.pruning.parts import acting_parts
from vlmprune.pruning.prefill import Prefill
from vlmprune.pruning.prompt import Record, Segment
from vlmprune.pruning.stages import Stages

_active: WeakSet[nn.Module] = WeakSet()


class Session:
    """Prunes every forward pass of one model while it is open. Make it with `vlmprune.prune`.

    record: what the last prefill did (kept slots, counts of each layer, selection_ms). segment: the prompt that is
    left of it at decoder layer 0. text_tower: needed by methods that read text_relevance, which also need `ask`.
    features: where encodings are looked up and kept, for tiles that `show` names.

    Raises RuntimeError on nesting, on an attempt to continue a cache that this session did not fill, and on features
    that are not finite; NotImplementedError by name for what cannot work (assisted decoding, chunked prefill).
    """

    def __init__(
        self,
        adapter: Adapter,
        method: Method,
        clock: Clock | None = None,
        text_tower: TextTower | None = None,
        features: FeatureStore | None = None,
    ) -> None:
        self.adapter, self.method, self.text_tower, self.features = adapter, method, text_tower, features
        self.record: Record | None = None
        self._timer = SelectionTimer(adapter.model.device, clock)
        self._handles: list[Any] = []
        self._stages = Stages()
        self._visual: Tensor | None = None
        self.segment: Segment | None = None
        self._cache: Any = None
        self._prefilling = False

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
        return self._stages.owners

    def ask(self, questions: list[str]) -> None:
        """The questions of the next forward pass or generate(), one per prompt: read by text_relevance.

        One per image where prompts have different numbers of images.
        """
        if self._stages.sequence is not None:
            self._stages.sequence.questions = questions

    def show(self, tiles: list[str]) -> None:
        """The tiles of the next encoding, each named by its content: what the feature store knows is not computed."""
        if self._stages.memo is not None:
            self._stages.memo.keys = tiles

    def _install(self) -> None:
        base, language_model = self.adapter.base_model, self.adapter.language_model
        self._handles.append(base.register_forward_pre_hook(self._see_prompt, with_kwargs=True))
        self._handles.append(language_model.register_forward_pre_hook(self._shorten, with_kwargs=True))
        parts = acting_parts(self.method, self.adapter.tower)
        before = any(not isinstance(part, DecoderMethod) for part in parts)
        self._handles += self.adapter.prepare(before)
        stages = self._stages
        stages.install(self.adapter, self.method, parts, self._timer, self.text_tower)
        stages.remember(self.adapter, self.features)
        if stages.acting:
            self._handles.append(language_model.register_forward_hook(self._after))
            model, drops = self.adapter.model, stages.decoder is not None
            self._handles.append(model.register_forward_pre_hook(refuse_labels, with_kwargs=True))
            self._handles.append(
                guard_generate(model, scores_inside=drops or stages.scout is not None, drops_inside=drops)
            )

    def _remove(self) -> None:
        try:
            for handle in self._handles:
                handle.remove()
            self._stages.remove()
        finally:
            self._handles = []
            self.segment = self._cache = self._visual = None
            _active.discard(self.adapter.model)

    def _see_prompt(self, _base: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        input_ids = args[0] if args else kwargs.get("input_ids")
        self._visual = None if input_ids is None else self.adapter.visual_mask(input_ids)

    def _after(self, _lm: nn.Module, _args: tuple, output: Any) -> None:
        spans = self._timer.take()
        if self._prefilling and self.record is not None:
            self.record.selection = spans
            self._cache = getattr(output, "past_key_values", None)  # the caller's, or one that the model made

    def _shorten(self, _lm: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        cache = kwargs.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        self._prefilling = cached == 0
        if self._prefilling:
            kwargs = self._prefill(kwargs)
        elif self._stages.acting:
            kwargs = self._decode(kwargs, cached)
        return args, kwargs

    def _prefill(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._visual is None:
            if not self._stages.acting:
                return kwargs
            raise NotImplementedError("inputs_embeds cannot be pruned: pass input_ids and pixel_values")
        adapter, visual = self.adapter, self._visual
        prompt = Prefill(kwargs, visual, self._stages.sequence is not None, adapter.decoder_depth)
        self.record = prompt.record
        prompt.begin(adapter.detail(visual) if "tiles" in self.method.needs else visual)
        self.segment = prompt.segment
        if not self._stages.acting:
            return kwargs
        prompt.check_padding()
        cache = kwargs.get("past_key_values")
        if self._stages.decoder is not None and getattr(cache, "is_compileable", False):
            raise NotImplementedError(f"{type(cache).__name__} inside the decoder: use DynamicCache")
        if self._stages.sequence is not None and any(prompt.slot_counts):
            prompt.check_finite(*self._stages.sequence.take_counts())
        with self._timer("selection"):
            if self._stages.sequence is not None:
                prompt.drop_marked(adapter.position_rule(self._stages.sequence.method))
            if self._stages.scout is not None:
                prompt.restart(self._stages.scout, adapter.position_rule(self._stages.scout.method))
            self.segment, kwargs = prompt.segment, prompt.kwargs
            if self._stages.decoder is not None:
                kwargs = self._stages.decoder.begin(prompt.segment, prompt.running, prompt.record, kwargs)
        return kwargs

    def _decode(self, kwargs: dict[str, Any], cached: int) -> dict[str, Any]:
        if kwargs.get("past_key_values") is not self._cache or self.segment is None:
            raise RuntimeError("this KV cache was filled outside the session: prefill inside `with prune(...)`")
        embeds, segment = kwargs["inputs_embeds"], self.segment
        new = embeds.shape[1]
        if self._stages.sequence is not None and new > 1 and embeds.isnan().any():
            raise NotImplementedError("images in a later turn of a cached conversation: start a new cache")
        mask = kwargs.get("attention_mask")
        if new > 1 and isinstance(mask, Tensor) and mask.dim() == 2 and not mask[:, -new:].all():
            raise NotImplementedError("padding inside a later turn of a cached conversation: start a new cache")
        if self._stages.decoder is not None:
            if new > 1:
                raise NotImplementedError("reusing a cache for a second prompt with a method inside the decoder")
            self._stages.decoder.step()
        return kwargs | {
            "attention_mask": segment.mask(cached + new),
            "position_ids": segment.positions(cached, new),
        }
