"""Selection before decoder layers K > 0 (FastV, PyramidDrop, SparseVLM), and methods that restart the decoder.

The layers between two K are a `Segment` with a prompt mask, positions and a causal mask of that segment, and their KV
caches hold only the tokens that they processed. transformers builds one mask for all layers, which fits only the first
segment.

Then the decoder runs on the shortened prompt from layer 0 on, so that every layer's KV cache holds kept tokens only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.contract import CheckedMethod, NonFiniteChecks, checked_stages, non_finite_samples
from vlmprune.engine.deepstack import Deepstack
from vlmprune.engine.hooks import AttentionProbe, full_precision, probe_error, query_and_key
from vlmprune.engine.observer import SelectionObserver
from vlmprune.engine.prompt_state import (
    Record,
    Segment,
    SequenceState,
    compact,
    full_positions,
    marked_slots,
    new_positions,
    trailing_attention,
)
from vlmprune.engine.timing import Clock
from vlmprune.errors import UserError
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSelection, DecoderSignals, DecoderStage


class DecoderSelector:
    """Selections of one `DecoderMethod` in one prefill after the other, reported to the observer, if there is one."""

    def __init__(self, adapter: ModelInterface, method: DecoderMethod, observer: SelectionObserver | None) -> None:
        self.adapter, self.method, self.observer = adapter, method, observer
        self.checked_method, self._soundness = CheckedMethod(method), NonFiniteChecks()

    def start_prefill(self, embeds: Tensor, state: SequenceState, texts: list[int]) -> SequenceState:
        """Return the state at decoder layer 0 with the method's raters. texts: text tokens of each prompt."""
        self._soundness.clear()
        with full_precision(embeds.device):
            raters = self.checked_method.raters(embeds, state.visual, state.valid)
        return state.with_raters(raters, texts)

    def select(
        self,
        attention: Tensor,
        hidden: Tensor,
        state: SequenceState,
        positions: Tensor,
        stages: list[DecoderStage],
        counts: list[int],
    ) -> DecoderSelection:
        """Return the method's choice before the layer of `stages`, one of each sample.

        attention: [B, H, R, L]. hidden: [B, L, D]. positions: [..., B, L]. counts: visual tokens of each sample so far.
        """
        layer = stages[0].layer
        signals = DecoderSignals(
            attention=attention,
            raters=state.raters[:, -attention.shape[2] :],
            hidden=hidden,
            visual=state.visual,
            detail=state.detail,
            valid=state.valid,
            positions=positions if positions.dim() == 2 else positions[-3],
            frequencies=self.adapter.language_model.rotary_emb.inv_freq,
        )
        with full_precision(hidden.device):
            chosen = self.checked_method.select_in_decoder(signals, stages, counts)
        self._soundness.note(layer, non_finite_samples(signals, chosen))
        if self.observer is not None:
            visual = state.visual
            scores = None if chosen.scores is None else chosen.scores[visual]
            changed = torch.zeros_like(visual) if chosen.hidden is None else (chosen.hidden != hidden).any(dim=2)
            self.observer.observe_selection(layer, state.slots[visual], scores, changed[visual])
        return chosen

    def check(self) -> None:
        """Raise NotFinite at the end of a prefill if it selected by scores that are nan. One host sync."""
        self._soundness.check(self.method)


class DecoderHooks:
    """Hooks that run one `DecoderMethod` inside the decoder."""

    def __init__(
        self, adapter: ModelInterface, method: DecoderMethod, clock: Clock, observer: SelectionObserver | None = None
    ) -> None:
        self.adapter, self.method, self.clock = adapter, method, clock
        self.selector = DecoderSelector(adapter, method, observer)
        # The layers are known before any prompt; the number of kept tokens depends on the prompt.
        self.layers = [stage.layer for stage in checked_stages(method, "schedule", adapter.decoder_depth, 1)]
        self.record: Record
        self._texts: list[int]  # text tokens of each prompt
        self._stages: dict[int, list[DecoderStage]]  # by the visual tokens of a prompt
        self._attention: Tensor | None = None  # of the layer before the next stage
        self._state: SequenceState
        self._positions: Tensor  # of its tokens
        self._deepstack: Deepstack
        self._prefilling = False
        self._segments: dict[int, Segment] = {}
        self._inputs: dict[str, Any] = {}
        self._handles: list[Any] = []
        self._probes: list[AttentionProbe] = []

    def install(self) -> None:
        """Hook every layer from the first stage on, and probe the attention from which each stage selects."""
        for index in range(self.layers[0], self.adapter.decoder_depth):
            hook = self._before_layer(index)
            self._handles.append(self.adapter.decoder_layer(index).register_forward_pre_hook(hook, with_kwargs=True))
        if self.method.reads == "previous":
            for layer in self.layers:
                self._probes.append(AttentionProbe(self.adapter.decoder_attention(layer - 1), self._observe))

    def remove(self) -> None:
        """Remove the hooks and probes, and restore the model."""
        for handle in self._handles:
            handle.remove()
        for probe in self._probes:
            probe.remove()
        self._handles, self._probes, self._inputs, self._segments = [], [], {}, {}

    def start_prefill(
        self, segments: dict[int, Segment], state: SequenceState, record: Record, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Start a prefill, and return the language model's arguments without the features that the stages add.

        segments: holds segment 0, and gets one more at every stage. record: gets the counts and kept slots of each
        stage. kwargs: the language model's arguments. Raises UserError if the method has no schedule for a prompt's
        number of visual tokens.
        """
        embeds = kwargs["inputs_embeds"]
        self._prefilling = True
        self._positions = full_positions(kwargs, embeds.shape[1], embeds.device)
        self._deepstack, kwargs = Deepstack.from_arguments(kwargs, self.layers[0])
        self._segments, segment, self._attention = segments, segments[0], None
        depth = self.adapter.decoder_depth
        try:
            self._stages = {n: checked_stages(self.method, "stages", depth, n) for n in {*segment.visual_counts} if n}
        except UserError:
            raise
        except ValueError as error:  # about this prompt's number of tokens: `check` knew only that of one image
            raise UserError(f"{type(self.method).__name__}: {error}") from error
        self._texts = [total - n for total, n in zip(record.prompt_lengths, segment.visual_counts, strict=True)]
        self._state, self.record = self.selector.start_prefill(embeds, state, self._texts), record
        return kwargs

    def start_decode_step(self, segments: dict[int, Segment]) -> None:
        """Start a decode step, which drops nothing. segments: of the conversation in the cache."""
        self._prefilling, self._segments = False, segments

    def check(self) -> None:
        """Raise RuntimeError at the end of a prefill if a stage did not run, or selected by scores that are nan.

        One host sync.
        """
        missing = [layer for layer in self.layers if layer not in self._segments]
        if missing:
            raise RuntimeError(
                f"the hooks of decoder layers {missing} did not run, so that {type(self.method).__name__} was not "
                "applied: something calls the layers past their hooks"
            )
        self.selector.check()

    def _observe(self, query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> None:
        if self._prefilling:
            with self.clock("selection"):
                self._attention = trailing_attention(query, key, self._state, scaling)

    def _before_layer(self, index: int) -> Any:
        def hook(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            hidden = args[0] if args else kwargs["hidden_states"]
            if self._prefilling:
                hidden = self._deepstack.add(index - 1, hidden)
            if index in self.layers:
                hidden = self._enter(index, layer, hidden, kwargs)
            changed = kwargs | self._inputs
            if args:
                return (hidden, *args[1:]), changed
            return args, changed | {"hidden_states": hidden}

        return hook

    def _enter(self, index: int, layer: Any, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Start the segment at layer `index`: drop tokens at prefill, set its layers' arguments."""
        cache = kwargs.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length(index))
        if self._prefilling:
            with self.clock("selection"):
                before = kwargs if index == self.layers[0] else self._inputs
                hidden, rotary = self._drop(index, layer, hidden, before["position_embeddings"])
                positions = self._positions
        else:
            positions = self._segments[index].positions(cached, hidden.shape[1])
            rotary = self.adapter.rotary(hidden, positions)
        plain = positions if positions.dim() == 2 else None  # transformers only looks for packed sequences in them
        total = cached + hidden.shape[1]
        mask = self._segments[index].mask(total)
        if mask is None and self._prefilling:
            mask = torch.ones(len(hidden), total, dtype=torch.bool, device=hidden.device)
        self._inputs = {
            "attention_mask": create_causal_mask(
                config=self.adapter.language_model.config,
                inputs_embeds=hidden,
                attention_mask=mask,
                past_key_values=cache,
                position_ids=plain,
                layer_idx=index,
            ),
            "position_ids": plain,
            "position_embeddings": rotary,
        }
        return hidden

    def _drop(
        self, index: int, layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        now, rule = self._state, self.adapter.position_rule(self.method)
        before = self._segments[max(start for start in self._segments if start < index)]
        stages = [self._stage(index, n) for n in self._segments[0].visual_counts]
        chosen = self._select(index, layer, hidden, rotary, stages, before.visual_counts)

        left = chosen.left or [min(s.left, n) for s, n in zip(stages, before.visual_counts, strict=True)]
        keep = chosen.keep | (now.valid & ~now.visual)
        counts = [text + n for text, n in zip(self._texts, left, strict=True)]
        spatial = compact(keep, counts)
        # Kept positions go with the spatial order. Renumbered positions rise in any order of the tokens.
        plan = spatial if chosen.order is None or rule == "keep" else compact(keep, counts, chosen.order)
        self._positions, shift = new_positions(self._positions, keep | ~now.valid, spatial, rule)
        hidden = plan.gather_hidden(hidden if chosen.hidden is None else chosen.hidden)
        if rule == "keep":
            cos, sin = (plan.gather(part, part.dim() - 3) for part in rotary)
        else:
            cos, sin = self.adapter.rotary(hidden, self._positions)
        self._segments[index] = Segment(index, hidden.shape[1], plan.valid, before.next_position - shift, left)
        self._state, self._deepstack = now.after(plan), self._deepstack.after(plan)
        self.record.visual_counts[index:] = [left] * (self.adapter.decoder_depth - index)
        self.record.kept = marked_slots(self._state.visual, self._state.visual, self._state.slots, now.slot_count)
        return hidden, (cos, sin)

    def _select(
        self,
        index: int,
        layer: Any,
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        stages: list[DecoderStage],
        counts: list[int],
    ) -> DecoderSelection:
        if self.method.reads == "own":
            attention = self._own_rows(index, layer, hidden, rotary)
        elif self._attention is None:
            raise probe_error(self.adapter.decoder_attention(index - 1))
        else:
            attention, self._attention = self._attention, None
        return self.selector.select(attention, hidden, self._state, self._positions, stages, counts)

    def _own_rows(self, index: int, layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        query, key, _, scaling = query_and_key(
            self.adapter.decoder_attention(index),
            hidden_states=layer.input_layernorm(hidden),
            position_embeddings=rotary,
            attention_mask=None,
            past_key_values=None,
        )
        return trailing_attention(query, key, self._state, scaling)

    def _stage(self, index: int, n: int) -> DecoderStage:
        """Return the stage at layer `index` of a sample that had `n` visual tokens at decoder layer 0."""
        if n == 0:
            return DecoderStage(index, 0)
        return next(stage for stage in self._stages[n] if stage.layer == index)


class Restart:
    """Run of the first K layers that selects visual tokens; it probes the attention of layer K-1 and hooks nothing."""

    def __init__(
        self, adapter: ModelInterface, method: DecoderMethod, observer: SelectionObserver | None = None
    ) -> None:
        self.adapter, self.method = adapter, method
        self.selector = DecoderSelector(adapter, method, observer)
        self.layer = checked_stages(method, "schedule", adapter.decoder_depth, 1)[0].layer
        self._state: SequenceState | None = None
        self._attention: Tensor | None = None
        self._probes: list[AttentionProbe] = []

    def install(self) -> None:
        """Install the probe."""
        self._probes.append(AttentionProbe(self.adapter.decoder_attention(self.layer - 1), self._observe))

    def remove(self) -> None:
        """Remove the probe."""
        for probe in self._probes:
            probe.remove()
        self._probes = []

    def _observe(self, query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> None:
        if self._state is not None:
            self._attention = trailing_attention(query, key, self._state, scaling)

    def check(self) -> None:
        """Raise NotFinite at the end of a prefill if it selected by scores that are nan. One host sync."""
        self.selector.check()

    def select_tokens(
        self, embeds: Tensor, positions: Tensor, state: SequenceState, texts: list[int], visual_counts: list[int]
    ) -> tuple[Tensor, list[int]]:
        """Return bool [B, L], True at text and kept visual tokens, and the number of kept visual tokens of each prompt.

        embeds: [B, L, D]. positions: [..., B, L]. texts, visual_counts: tokens of each kind in each prompt.
        """
        model = self.adapter.language_model
        state = self.selector.start_prefill(embeds, state, texts)
        mask = create_causal_mask(
            config=model.config,
            inputs_embeds=embeds,
            attention_mask=state.valid,
            past_key_values=None,
            position_ids=positions,
        )
        rotary = model.rotary_emb(embeds, position_ids=positions)
        hidden: Any = embeds
        self._state, self._attention = state, None
        for index in range(self.layer):
            layer = self.adapter.decoder_layer(index)
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        self._state = None
        if self._attention is None:
            raise probe_error(self.adapter.decoder_attention(self.layer - 1))
        stages = [DecoderStage(self.layer, n) for n in visual_counts]
        chosen = self.selector.select(self._attention, hidden, state, positions, stages, visual_counts)
        assert chosen.left is not None
        return chosen.keep | (state.valid & ~state.visual), chosen.left
