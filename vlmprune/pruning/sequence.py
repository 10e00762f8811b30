"""Selection between the vision encoder and decoder layer 0.

Reading order of one forward pass:
    probes on the declared encoder layers collect the signals; layers that nothing reads are skipped;
    the projector receives the kept tokens only, and its output is scattered back to full length, dropped slots marked
    NaN, so that transformers' own placeholder checks, packing and beam expansion see what they expect;
    the language model's pre-hook (prompt.py) then drops the marked slots for good.
A method that reads projected features selects after the projector instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlmprune.methods.base import Selection, SequenceMethod, Signals
from vlmprune.pruning.adapter import Adapter, TextTower
from vlmprune.pruning.clock import Clock
from vlmprune.pruning.probe import Probe, attention_rows

AFTER_PROJECTOR = frozenset({"projected"})


class SequenceStage:
    """Runs one `SequenceMethod` on every image that the vision encoder encodes."""

    def __init__(
        self, adapter: Adapter, method: SequenceMethod, clock: Clock, text_tower: TextTower | None = None
    ) -> None:
        self.adapter, self.method, self.clock, self.text_tower = adapter, method, clock, text_tower
        self.questions: list[str] = []
        self.layers = method.layers(adapter.tower)
        self.rows: dict[str, dict[int, Tensor]] = {}
        self.pixels: Tensor | None = None
        self.selection: Selection | None = None
        self.slots = self.dropped = 0  # of the last encoding: visual tokens, and how many were dropped, on the host
        self.n = adapter.tower.grid[0] * adapter.tower.grid[1]
        self._probes: list[Probe] = []
        self._handles: list[Any] = []
        self._skipped: list[nn.Module] = []

    def install(self) -> None:
        """Put the hooks in place."""
        needs, adapter = self.method.needs, self.adapter
        if set(needs) & {"cls_attention", "received_attention", "keys", "queries"}:
            for layer in self.layers:
                attention = adapter.vision_attention(layer)
                self._probes.append(Probe(attention, lambda *seen, layer=layer: self._observe(layer, *seen)))
        self._handles.append(adapter.vision_tower.register_forward_pre_hook(self._see_pixels, with_kwargs=True))
        if not AFTER_PROJECTOR & set(needs):
            self._handles.append(adapter.projector.register_forward_pre_hook(self._before_projector))
        self._handles.append(adapter.projector.register_forward_hook(self._after_projector))
        if "cls_feature" in needs:
            layer = adapter.vision_layer(adapter.tower.feature_layer)
            self._handles.append(layer.register_forward_hook(self._see_cls))
        last_read = max(adapter.tower.feature_layer, *self.layers)
        for index in range(last_read + 1, adapter.tower.depth):
            module = adapter.vision_layer(index)
            module.forward = _pass_through  # an instance attribute that shadows the class's forward
            self._skipped.append(module)

    def remove(self) -> None:
        """Leave the model as it was found."""
        for handle in self._handles:
            handle.remove()
        for probe in self._probes:
            probe.remove()
        for module in self._skipped:
            del module.forward
        self._handles, self._probes, self._skipped = [], [], []
        self.rows, self.pixels = {}, None  # large, and of no use to whoever still holds the session

    def _observe(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        with self.clock("selection"):
            first_patch = int(self.adapter.tower.has_cls)
            if "cls_attention" in self.method.needs:
                row = attention_rows(query[:, :, :1], key, mask, scaling)[:, :, 0, first_patch:]
                self.rows.setdefault("cls_attention", {})[layer] = row
            if "received_attention" in self.method.needs:
                received = attention_rows(query, key, mask, scaling).mean(dim=2)[:, :, first_patch:]
                self.rows.setdefault("received_attention", {})[layer] = received
            if "keys" in self.method.needs:
                self.rows.setdefault("keys", {})[layer] = key
            if "queries" in self.method.needs:
                self.rows.setdefault("queries", {})[layer] = query

    def _see_pixels(self, _tower: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.pixels = args[0] if args else kwargs["pixel_values"]
        self.rows = {}
        self.selection = None

    def _see_cls(self, _layer: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self.rows["cls_feature"] = {0: hidden[:, 0]}

    def _before_projector(self, _projector: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (features,) = args
        with self.clock("selection"):
            self.selection = selection = self._select(features=features)
            if selection.features is not None:
                return (selection.features.to(features.dtype),)
            return (_rows_of(features, selection.indices),)

    def _after_projector(self, _projector: nn.Module, _args: tuple[Tensor], output: Tensor) -> Tensor:
        with self.clock("selection"):
            if self.selection is None:
                self.selection = self._select(projected=output)
                kept = self.selection.features
                output = _rows_of(output, self.selection.indices) if kept is None else kept.to(output.dtype)
            return self._scatter(self.selection, output)

    def _select(self, **tensors: Tensor) -> Selection:
        (reference,) = tensors.values()
        images, n = reference.shape[:2]
        self.n = n
        layered: dict[str, Any] = {
            name: torch.stack([rows[layer] for layer in self.layers])
            for name, rows in self.rows.items()
            if name != "cls_feature"
        }
        if "cls_feature" in self.rows:
            layered["cls_feature"] = self.rows["cls_feature"][0]
        if "seeds" in self.method.needs:
            assert self.pixels is not None
            layered["seeds"] = _seeds(self.pixels)
        signals = Signals(grid=self.adapter.tower.grid, images=images, **layered, **tensors)  # type: ignore[arg-type]
        selection = self.method.select(signals, self.method.count(n))
        selection.indices = selection.indices.to(reference.device)
        kept = selection.indices.shape[1] * images if selection.valid is None else int(selection.valid.sum())
        self.slots, self.dropped = images * n, images * n - kept
        return selection

    def _scatter(self, selection: Selection, kept: Tensor) -> Tensor:
        """kept [B, k, D] -> [B, N, D], in output order at the selected slots, NaN everywhere else."""
        images, width = kept.shape[0], kept.shape[2]
        if selection.valid is not None:
            kept = kept.masked_fill(~selection.valid.unsqueeze(-1), torch.nan)
        slots = selection.indices
        if self.adapter.position_rule(self.method) == "renumber":
            slots = slots.sort(dim=1).values  # order is all that renumbered positions can carry
        full = kept.new_full((images, self.n, width), torch.nan)
        return full.scatter(1, slots.unsqueeze(-1).expand(-1, -1, width), kept)


def _rows_of(features: Tensor, indices: Tensor) -> Tensor:
    return features.gather(1, indices.unsqueeze(-1).expand(-1, -1, features.shape[-1]))


def _seeds(pixels: Tensor) -> list[int]:
    """One integer per image from its pixels: exact integer sums, so the batch and the device do not matter."""
    levels = (pixels.float() * 4096).round().to(torch.int64).flatten(1)
    weights = torch.arange(levels.shape[1], device=levels.device) % 8191 + 1
    return (levels * weights).sum(dim=1).abs().tolist()


def _pass_through(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states
