"""What a method before the language model asked to read, collected while the vision encoder runs.

Attention signals are computed beside SDPA or flash, for the rows and layers that were declared and no others.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from vlmprune.methods.base import LAYERED, SequenceMethod, Signals
from vlmprune.methods.reductions import pairwise_sum
from vlmprune.methods.similarity import at_least_float32
from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.clock import Clock
from vlmprune.pruning.layout import Group, Layout
from vlmprune.pruning.probe import Probe, attention_rows, not_seen


class SignalReader:
    """Probes the encoder layers that a method reads, and hands it each group's share."""

    def __init__(self, adapter: Adapter, method: SequenceMethod, clock: Clock) -> None:
        self.adapter, self.method, self.clock = adapter, method, clock
        self.layers = method.layers(adapter.tower)
        # What each layer showed, one part per call of its attention: [tiles, H, tokens of a tile, ...].
        self._parts: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self._cls_features: list[Tensor] = []
        self._probes: list[Probe] = []
        self._handles: list[Any] = []

    def install(self) -> None:
        """Put the probes in place."""
        if LAYERED & set(self.method.needs):
            for layer in self.layers:
                for attention in self.adapter.vision_attentions(layer):
                    self._probes.append(Probe(attention, lambda *seen, layer=layer: self._observe(layer, *seen)))
        if "cls_feature" in self.method.needs:
            for module in self.adapter.vision_layers(self.adapter.tower.feature_layer):
                self._handles.append(module.register_forward_hook(self._see_cls))

    def remove(self) -> None:
        """Leave the model as it was found, and free what was collected."""
        for probe in self._probes:
            probe.remove()
        for handle in self._handles:
            handle.remove()
        self._probes, self._handles = [], []
        self.clear()

    def clear(self) -> None:
        """Forget the last encoding."""
        self._parts.clear()
        self._cls_features.clear()

    @property
    def layered(self) -> list[str]:
        """The signals that are read at layers."""
        return sorted(LAYERED & set(self.method.needs))

    def names(self) -> list[str]:
        """A name for each of them at each layer."""
        return [f"{name}@{layer}" for name in self.layered for layer in self.layers]

    def part(self, name: str) -> Tensor:
        """What the only call of a layer's attention showed, a tile a row; name as in `names`."""
        signal, _, layer = name.partition("@")
        (part,) = self._parts[signal][int(layer)]
        return part

    def replace(self, name: str, part: Tensor) -> None:
        """Put `part` in the place of what was shown, if anything was."""
        signal, _, layer = name.partition("@")
        self._parts[signal][int(layer)] = [part]

    def take(self) -> tuple[dict[str, dict[int, list[Tensor]]], list[Tensor]]:
        """All that the last encoding showed, which is then forgotten."""
        shown = {name: dict(layers) for name, layers in self._parts.items()}, list(self._cls_features)
        self.clear()
        return shown

    def put(self, shown: tuple[dict[str, dict[int, list[Tensor]]], list[Tensor]]) -> None:
        """Go on as if the encoder had shown what `take` returned."""
        for name, layers in shown[0].items():
            for layer, parts in layers.items():
                self._parts[name][layer] += parts
        self._cls_features += shown[1]

    def _observe(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        first, needs = int(self.adapter.tower.has_cls), self.method.needs
        with self.clock("selection"):
            if "cls_attention" in needs and self.adapter.tower.has_cls:
                row = attention_rows(query[:, :, :1], key, mask, scaling)[:, :, 0, 1:]
                self._parts["cls_attention"][layer].append(row)
            elif "cls_attention" in needs:
                self._parts["cls_attention"][layer].append(received_attention(query, key, mask, scaling))
            if "received_attention" in needs:
                received = received_attention(query, key, mask, scaling)[:, :, first:]
                self._parts["received_attention"][layer].append(received)
            if "keys" in needs:
                self._parts["keys"][layer].append(key)
            if "queries" in needs:
                self._parts["queries"][layer].append(query)

    def _see_cls(self, _layer: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self._cls_features.append(hidden[:, 0])

    def of(self, group: Group, layout: Layout, **tokens: Tensor) -> Signals:
        """The signals of one group. tokens: signals [S, ...] that have a row for every token of the encoding."""
        signals = Signals(grid=group.grid, images=len(group.index), tokens=group.index.shape[1])
        for name, rows in tokens.items():
            setattr(signals, name, rows[group.index])
        for name in LAYERED & set(self.method.needs):
            setattr(signals, name, torch.stack([self._layered(name, layer, group) for layer in self.layers]))
        if "cls_feature" in self.method.needs:
            signals.cls_feature = torch.cat(self._cls_features)[group.tiles]
        if "seeds" in self.method.needs:
            signals.seeds = torch.stack([seed_of(layout.pixels[tile]) for tile in group.tiles]).tolist()
        return signals

    def _layered(self, name: str, layer: int, group: Group) -> Tensor:
        parts = self._parts[name][layer]
        if not parts:
            raise not_seen(self.adapter.vision_attentions(layer)[0])
        if name not in ("keys", "queries"):
            return self.adapter.per_token(parts)[:, group.index].movedim(0, 1)  # [H, S] -> [G, H, n]
        patches = self.adapter.per_token([part[:, :, 1:] for part in parts])[:, group.index].movedim(0, 1)
        cls = torch.cat([part[:, :, :1] for part in parts])[group.tiles]
        return torch.cat([cls, patches], dim=2)


def received_attention(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, rows: int = 512) -> Tensor:
    """Mean over query rows of the attention that each key receives [B, H, Lk], in float32 at least.

    `rows` at a time are in memory.
    """
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], query.shape[2], -1)
    total = at_least_float32(query.new_zeros(*query.shape[:2], key.shape[2]))
    for start in range(0, query.shape[2], rows):
        part = None if mask is None else mask[..., start : start + rows, :]
        total += pairwise_sum(attention_rows(query[:, :, start : start + rows], key, part, scaling), dim=2)
    return total / query.shape[2]


def seed_of(pixels: Tensor) -> Tensor:
    """int64 [], from the pixels of a tile: exact integer sums, so neither the batch nor the device matters."""
    levels = (pixels.float() * 4096).round().to(torch.int64).flatten()
    weights = torch.arange(len(levels), device=levels.device) % 8191 + 1
    return (levels * weights).sum().abs()
