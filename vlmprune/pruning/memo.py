"""Encoder layers that compute only the tiles which the feature store does not hold yet.

The unknown tiles of an encoding go through the layers, each distinct tile once; after the layer that the projector
reads, the stored hidden states of the known tiles are added. The signals that probes collected are completed in the
same way. Only for encoders in which no tile depends on another one of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlmprune.pruning.adapter import Adapter
from vlmprune.pruning.features import Entry, FeatureStore
from vlmprune.pruning.shadow import Shadow
from vlmprune.pruning.signals import SignalReader

HIDDEN = "hidden"


class Memo:
    """Wrapper of the encoder's layers while a session is open, which looks tiles up in `store`.

    reader: the reader of the method's signals; None if it reads none. keys: content keys of the next encoding's tiles;
    an encoding of another number of tiles is computed in full.
    """

    def __init__(self, adapter: Adapter, store: FeatureStore, reader: SignalReader | None) -> None:
        self.adapter, self.store, self.reader = adapter, store, reader
        self.keys: list[str] = []
        self._active = False
        self._unique: list[str] = []  # the tiles of this encoding, each once
        self._known: list[Entry | None] = []  # in the order of `_unique`
        self._handles: list[Any] = []

    def install(self) -> None:
        """Wrap the encoder's layers up to the last one that is read."""
        feature = self.adapter.tower.feature_layer
        last = max([feature, *(self.reader.layers if self.reader and self.reader.layered else ())])
        for index in range(last + 1):
            for module in self.adapter.vision_layers(index):
                self._handles.append(Shadow(module, "forward", self._layer(index, feature, last)))

    def remove(self) -> None:
        """Restore the encoder's layers."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._known, self.keys, self._active = [], [], [], False

    def _layer(self, index: int, feature: int, last: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
                if index == 0:
                    self._begin(len(hidden))
                if not self._active:
                    return original(hidden, *args, **kwargs)
                if index in (0, feature + 1):
                    hidden = hidden[self._rows(hidden.device)]
                if len(self._unknown):
                    hidden = original(hidden, *args, **kwargs)
                if index == feature:
                    self._computed = hidden
                    hidden = self._joined(HIDDEN, hidden if len(self._unknown) else None, hidden.device)
                if index == last:
                    self._finish(hidden.device)
                return hidden

            return forward

        return wrap

    def _begin(self, tiles: int) -> None:
        self._active = len(self.keys) == tiles
        if not self._active:
            return
        self._unique = list(dict.fromkeys(self.keys))
        names = [HIDDEN, *(self.reader.names() if self.reader else ())]
        self._known = [self.store.get(key, names) for key in self._unique]

    @property
    def _unknown(self) -> list[int]:
        return [place for place, entry in enumerate(self._known) if entry is None]

    def _rows(self, device: torch.device) -> Tensor:
        """Return int64 [unknown tiles], the index in the encoding at which each unknown tile first occurs."""
        return torch.tensor([self.keys.index(self._unique[place]) for place in self._unknown], device=device).long()

    def _joined(self, name: str, computed: Tensor | None, device: torch.device) -> Tensor:
        """Return the signal `name` of every tile: from `computed` for unknown tiles, else from the store."""
        known = [entry[name] for entry in self._known if entry is not None]
        parts = [] if computed is None else [computed]
        if known:
            parts.append(torch.stack(known).to(device, non_blocking=True))
        unknown = self._unknown
        order = {place: row for row, place in enumerate(unknown)}
        order |= {
            place: len(unknown) + row for row, place in enumerate(i for i in range(len(self._known)) if i not in order)
        }
        places = {key: order[place] for place, key in enumerate(self._unique)}
        return torch.cat(parts)[torch.tensor([places[key] for key in self.keys], device=device)]

    def _finish(self, device: torch.device) -> None:
        """Complete the signals, and put the computed entries into the store."""
        unknown = self._unknown
        fresh: dict[str, Tensor] = {HIDDEN: self._computed} if unknown else {}
        if self.reader is not None:
            for name in self.reader.names():
                part = self.reader.part(name) if unknown else None
                if part is not None:
                    fresh[name] = part
                self.reader.replace(name, self._joined(name, part, device))
        host = {name: tensor.detach().to("cpu") for name, tensor in fresh.items()}
        for row, place in enumerate(unknown):
            self.store.put(self._unique[place], {name: tensor[row].clone() for name, tensor in host.items()})
        self.keys, self._known, self._active = [], [], False
        del self._computed
