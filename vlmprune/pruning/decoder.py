"""Selection before decoder layers K > 0: FastV, PyramidDrop and their kin, with tokens really gone.

Each stretch of layers between two K is a `Segment` with its own prompt mask, positions and causal mask, and its layers'
KV caches hold just what they saw. One mask for all layers, as transformers builds it, fits only the first stretch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask

from vlmprune.methods.base import DecoderMethod, DecoderSignals, DecoderStage
from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.clock import Clock
from vlmprune.pruning.compaction import compact
from vlmprune.pruning.probe import Probe, attention_rows, query_and_key
from vlmprune.pruning.prompt import Record, Segment, new_positions


@dataclass
class _Sequence:
    """The running state of one forward pass, [B, L]: visual tokens, where they stood, validity."""

    visual: Tensor
    slots: Tensor  # index of each visual token among the prompt's visual tokens
    valid: Tensor | None


class DecoderStages:
    """Runs one `DecoderMethod` inside the decoder."""

    def __init__(self, adapter: Adapter, method: DecoderMethod, clock: Clock) -> None:
        self.adapter, self.method, self.clock = adapter, method, clock
        # The layers are known before any prompt; how many tokens stay depends on the prompt.
        self.layers = [stage.layer for stage in method.stages(adapter.decoder_depth, 1)]
        self.record: Record
        self._attention: Tensor
        self._sequence: _Sequence
        self._prefilling = False
        self._segments: dict[int, Segment] = {}
        self._inputs: dict[str, Any] = {}
        self._handles: list[Any] = []
        self._probes: list[Probe] = []

    def install(self) -> None:
        """Hook every layer from the first stage on, and the attention that scores it."""
        for index in range(self.layers[0], self.adapter.decoder_depth):
            hook = self._before_layer(index)
            self._handles.append(self.adapter.decoder_layer(index).register_forward_pre_hook(hook, with_kwargs=True))
        if self.method.reads == "previous":
            for layer in self.layers:
                self._probes.append(Probe(self.adapter.decoder_attention(layer - 1), self._observe))

    def remove(self) -> None:
        """Leave the model as it was found."""
        for handle in self._handles:
            handle.remove()
        for probe in self._probes:
            probe.remove()
        self._handles, self._probes, self._inputs, self._segments = [], [], {}, {}

    def begin(self, segment: Segment, visual: Tensor, record: Record) -> None:
        """A prefill starts: layers below the first stage see `segment`; what is dropped goes into `record`."""
        self._prefilling = True
        self._segments = {0: segment}
        self.record = record
        self._sequence = _Sequence(visual, visual.cumsum(1) - 1, segment.valid)

    def step(self) -> None:
        """A decode step starts: nothing is scored or dropped any more."""
        self._prefilling = False

    def _observe(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        if self._prefilling:
            with self.clock("selection"):
                self._attention = self._last_row(query, key, mask, scaling)

    def _last_row(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        """Attention [B, H, 1, L] of the last prompt token, which causality lets see every real token."""
        valid = self._sequence.valid
        row_mask = None if valid is None else valid[:, None, None, :]
        return attention_rows(query[:, :, -1:], key, row_mask, scaling)

    def _before_layer(self, index: int) -> Any:
        def hook(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            hidden = args[0] if args else kwargs["hidden_states"]
            if index in self.layers:
                hidden = self._enter(index, layer, hidden, kwargs)
            changed = kwargs | self._inputs
            if args:
                return (hidden, *args[1:]), changed
            return args, changed | {"hidden_states": hidden}

        return hook

    def _enter(self, index: int, layer: Any, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Start the stretch of layers from `index` on: drop at prefill, and set what its layers are called with."""
        cache = kwargs.get("past_key_values")
        positions, rotary = kwargs["position_ids"], kwargs["position_embeddings"]
        if index != self.layers[0]:
            positions, rotary = self._inputs["position_ids"], self._inputs["position_embeddings"]
        cached = 0 if cache is None else int(cache.get_seq_length(index))
        if self._prefilling:
            with self.clock("selection"):
                hidden, positions, rotary = self._drop(index, layer, hidden, positions, rotary, kwargs)
        else:
            segment = self._segments[index]
            positions = segment.positions(cached, hidden.shape[1])
            rotary = self.adapter.language_model.rotary_emb(hidden, position_ids=positions)
        segment = self._segments[index]
        total = cached + hidden.shape[1]
        mask = segment.mask(total)
        if mask is None and self._prefilling:
            mask = torch.ones(len(hidden), total, dtype=torch.bool, device=hidden.device)
        self._inputs = {
            "attention_mask": create_causal_mask(
                config=self.adapter.language_model.config,
                inputs_embeds=hidden,
                attention_mask=mask,
                past_key_values=cache,
                position_ids=positions,
                layer_idx=index,
            ),
            "position_ids": positions,
            "position_embeddings": rotary,
        }
        return hidden

    def _drop(
        self, index: int, layer: Any, hidden: Tensor, positions: Tensor, rotary: tuple, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        now = self._sequence
        targets = [self._target(index, n) for n in self._segments[0].visual_counts]
        valid = torch.ones_like(now.visual) if now.valid is None else now.valid
        signals = DecoderSignals(self._rows(index, layer, hidden, rotary, kwargs), hidden, now.visual, valid)
        stays = _best(self.method.score(signals), now.visual, torch.tensor(targets, device=hidden.device))
        keep = stays | (valid & ~now.visual)
        before = self._previous(index)
        texts = [total - visual for total, visual in zip(self._lengths(before), before.visual_counts, strict=True)]
        visual_counts = [min(target, n) for target, n in zip(targets, before.visual_counts, strict=True)]
        plan = compact(keep, [text + n for text, n in zip(texts, visual_counts, strict=True)])

        shorter, shift = new_positions(positions, keep | ~valid, plan, self.method.positions)
        hidden = plan.gather_hidden(hidden)
        if self.method.positions == "keep":
            rotary = (plan.gather(rotary[0]), plan.gather(rotary[1]))
        else:
            rotary = self.adapter.language_model.rotary_emb(hidden, position_ids=shorter)
        self._segments[index] = Segment(index, hidden.shape[1], plan.valid, before.next_position - shift, visual_counts)
        self._sequence = _Sequence(plan.gather_flags(now.visual), plan.gather(now.slots), plan.valid)
        self._note(index, visual_counts)
        return hidden, shorter, rotary

    def _rows(self, index: int, layer: Any, hidden: Tensor, rotary: tuple, kwargs: dict[str, Any]) -> Tensor:
        if self.method.reads == "previous":
            return self._attention
        normed = layer.input_layernorm(hidden)
        seen = query_and_key(
            self.adapter.decoder_attention(index),
            hidden_states=normed,
            position_embeddings=rotary,
            attention_mask=None,
            past_key_values=None,
        )
        return self._last_row(*seen)

    def _target(self, index: int, n: int) -> int:
        stages: list[DecoderStage] = self.method.stages(self.adapter.decoder_depth, n)
        return next(stage.kept for stage in stages if stage.layer == index)

    def _previous(self, index: int) -> Segment:
        return self._segments[max(start for start in self._segments if start < index)]

    def _lengths(self, segment: Segment) -> list[int]:
        """Real tokens per row: known on the host from the prefill's one sync."""
        dropped = zip(self._segments[0].visual_counts, segment.visual_counts, strict=True)
        return [
            length - (first - left) for length, (first, left) in zip(self.record.prompt_lengths, dropped, strict=True)
        ]

    def _note(self, index: int, visual_counts: list[int]) -> None:
        record = self.record
        record.visual_counts = record.visual_counts[:index] + [visual_counts] * (self.adapter.decoder_depth - index)
        longest = max(visual_counts)
        # Visual tokens first, in order; a row with fewer is padded and marked.
        order = (~self._sequence.visual).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
        record.kept = self._sequence.slots.gather(1, order)
        record.valid = self._sequence.visual.gather(1, order)


def _best(score: Tensor, visual: Tensor, counts: Tensor) -> Tensor:
    """bool [B, L]: the counts[b] visual positions of row b with the largest score; of equals the first wins."""
    ranked = score.masked_fill(~visual, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(ranked).scatter_(
        1, ranked, torch.arange(score.shape[1], device=score.device).expand_as(ranked)
    )
    return visual & (rank < counts.unsqueeze(1))
