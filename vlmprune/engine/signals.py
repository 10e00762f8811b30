"""Signals for a method before the language model, collected while the vision encoder runs.

Attention signals are computed beside SDPA or flash, only for the rows and layers that the method declares.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.hooks import AttentionProbe, attention_rows, probe_error
from vlmprune.engine.layout import Group, Layout
from vlmprune.engine.timing import Clock
from vlmprune.methods.base import LAYERED, SequenceMethod, Signals
from vlmprune.methods.encoder_method import VisionMethod
from vlmprune.methods.tensor_ops import at_least_float32, pairwise_sum


class SignalReader:
    """Collector of the signals that a method reads from encoder layers, and their division into groups."""

    def __init__(self, adapter: ModelInterface, method: SequenceMethod | VisionMethod, clock: Clock) -> None:
        self.adapter, self.method, self.clock = adapter, method, clock
        self.layers = method.layers(adapter.tower)
        # By signal and layer, one part per call of the layer's attention: [tiles, H, tokens of a tile, ...].
        self._parts: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self._cls_features: list[Tensor] = []
        self._probes: list[AttentionProbe] = []
        self._handles: list[Any] = []

    def install(self) -> None:
        """Install the probes and hooks."""
        if LAYERED & set(self.method.needs):
            for layer in self.layers:
                for attention in self.adapter.vision_attentions(layer):
                    self._probes.append(
                        AttentionProbe(attention, lambda *seen, layer=layer: self._observe(layer, *seen))
                    )
        if "cls_feature" in self.method.needs:
            for module in self.adapter.vision_layers(self.adapter.tower.feature_layer):
                self._handles.append(module.register_forward_hook(self._collect_cls))

    def remove(self) -> None:
        """Remove the probes and hooks, and free the collected signals."""
        for probe in self._probes:
            probe.remove()
        for handle in self._handles:
            handle.remove()
        self._probes, self._handles = [], []
        self.clear()

    def clear(self) -> None:
        """Free the signals of the last encoding."""
        self._parts.clear()
        self._cls_features.clear()

    @property
    def layered(self) -> list[str]:
        """Names of the signals that the method reads from layers."""
        return sorted(LAYERED & set(self.method.needs))

    def names(self) -> list[str]:
        """Return `signal@layer` for each of `layered` at each layer."""
        return [f"{name}@{layer}" for name in self.layered for layer in self.layers]

    def part(self, name: str) -> Tensor:
        """Return the signal `name`, as in `names`, with a row per tile, from the only call of the layer's attention."""
        signal, _, layer = name.partition("@")
        (part,) = self._parts[signal][int(layer)]
        return part

    def replace(self, name: str, part: Tensor) -> None:
        """Set the signal `name`, as in `names`, to `part`, with a row per tile."""
        signal, _, layer = name.partition("@")
        self._parts[signal][int(layer)] = [part]

    def pop_signals(self) -> tuple[dict[str, dict[int, list[Tensor]]], list[Tensor]]:
        """Return all signals of the last encoding, and clear them."""
        shown = {name: dict(layers) for name, layers in self._parts.items()}, list(self._cls_features)
        self.clear()
        return shown

    def add_signals(self, shown: tuple[dict[str, dict[int, list[Tensor]]], list[Tensor]]) -> None:
        """Add signals that `pop_signals` returned, as if the encoder had run."""
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

    def _collect_cls(self, _layer: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self._cls_features.append(hidden[:, 0])

    def group_signals(self, group: Group, layout: Layout, **tokens: Tensor) -> Signals:
        """Return the signals of one group. tokens: signals [S, ...] that have a row for every token of the encoding."""
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
            raise probe_error(self.adapter.vision_attentions(layer)[0])
        if name not in ("keys", "queries"):
            return self.adapter.per_token(parts)[:, group.index].movedim(0, 1)  # [H, S] -> [G, H, n]
        patches = self.adapter.per_token([part[:, :, 1:] for part in parts])[:, group.index].movedim(0, 1)
        cls = torch.cat([part[:, :, :1] for part in parts])[group.tiles]
        return torch.cat([cls, patches], dim=2)


def received_attention(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, rows: int = 512) -> Tensor:
    """Return [B, H, Lk], the attention that each key receives, averaged over query rows, in float32 at least.

    rows: number of query rows that are in memory at a time.
    """
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], query.shape[2], -1)
    total = at_least_float32(query.new_zeros(*query.shape[:2], key.shape[2]))
    for start in range(0, query.shape[2], rows):
        part = None if mask is None else mask[..., start : start + rows, :]
        total += pairwise_sum(attention_rows(query[:, :, start : start + rows], key, part, scaling), dim=2)
    return total / query.shape[2]


def seed_of(pixels: Tensor) -> Tensor:
    """Return int64 [], a seed from the pixels of a tile, by exact integer sums: independent of batch and device."""
    levels = (pixels.float() * 4096).round().to(torch.int64).flatten()
    weights = torch.arange(len(levels), device=levels.device) % 8191 + 1
    return (levels * weights).sum().abs()
