"""Cache of vision encodings by tile, for the next question, method or ratio, and the encoder that uses it.

Entries do not depend on a method: each holds the hidden states of the layer that the projector reads and, by layer, the
attention signals that methods have asked for so far. The key is the tile's content. Entries are kept in memory on the
CPU and, if a folder is given, on disk.

The unknown tiles of an encoding go through the layers, each distinct tile once; after the layer that the projector
reads, the stored hidden states of the known tiles are added. The signals that probes collected are completed in the
same way. Only for encoders in which no tile depends on another one of the batch.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlmprune.engine.adapter import ModelInterface
from vlmprune.engine.hooks import MethodPatch
from vlmprune.engine.signals import SignalReader
from vlmprune.errors import UserError

Entry = dict[str, Tensor]  # name -> the encoder's output or signal for one tile, without a batch dimension

DIGEST = "sha256"  # metadata key in a file's header: a file with another digest is computed again
FIRST_SHARE = 0.75  # share of the memory for the entries that came first


class EncodingStore:
    """Entries by the content of their tile.

    memory: bytes. A sweep reads the same images many times, so the first entries are never removed; the rest of the
    memory holds the latest ones, for further questions about one image. folder: holds entries on disk as well, of one
    checkpoint in one dtype only. Raises UserError if it cannot be written.
    """

    def __init__(self, memory: int, folder: Path | None = None) -> None:
        self.memory, self.folder = memory, folder
        self.hits = self.misses = 0
        self._first: dict[str, Entry] = {}
        self._latest: OrderedDict[str, Entry] = OrderedDict()
        self._sizes = {"first": 0, "latest": 0}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, names: Iterable[str]) -> Entry | None:
        """Return the entry of a tile, or None if one of `names` is not in it."""
        entry = self._first.get(key) or self._latest.get(key)
        if entry is None or not entry.keys() >= set(names):
            entry = self._read(key)
            if entry is not None:
                self._keep(key, entry)
        if entry is None or not entry.keys() >= set(names):
            self.misses += 1
            return None
        self.hits += 1
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Add tensors on the CPU to the entry of a tile."""
        known = self._first.get(key) or self._latest.get(key) or self._read(key) or {}
        entry = known | entry
        self._keep(key, entry)
        if self.folder is not None:
            self._write(key, entry)

    def _write(self, key: str, entry: Entry) -> None:
        file = self._file(key)
        partial = file.with_name(f".{key}.{os.getpid()}")
        try:
            whole = {name: tensor.contiguous() for name, tensor in entry.items()}
            save_file(whole, partial, {DIGEST: digest(whole)})
            os.replace(partial, file)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise UserError(f"features.folder: {file} cannot be written ({error})") from error

    def _keep(self, key: str, entry: Entry) -> None:
        for name, entries in (("first", self._first), ("latest", self._latest)):
            self._sizes[name] -= size(entries.pop(key, {}))
        new = size(entry)
        if self._sizes["first"] + new <= FIRST_SHARE * self.memory:
            self._first[key] = entry
            self._sizes["first"] += new
            return
        self._latest[key] = entry
        self._sizes["latest"] += new
        while self._latest and self._sizes["latest"] > (1 - FIRST_SHARE) * self.memory:
            self._sizes["latest"] -= size(self._latest.popitem(last=False)[1])

    def _file(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.safetensors"

    def _read(self, key: str) -> Entry | None:
        if self.folder is None or not self._file(key).is_file():  # opening a pipe would block
            return None
        try:
            with safe_open(self._file(key), "pt") as file:
                recorded = (file.metadata() or {}).get(DIGEST)
                entry = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        except (OSError, SafetensorError):  # truncated or damaged: the entry is computed and written again
            return None
        return entry if recorded == digest(entry) else None


def digest(entry: Entry) -> str:
    """Return the sha256 of an entry: names, types, shapes and values."""
    total = hashlib.sha256()
    for name, tensor in sorted(entry.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def size(entry: Entry) -> int:
    """Return the bytes of an entry."""
    return sum(tensor.nbytes for tensor in entry.values())


HIDDEN = "hidden"


class CachedEncoder:
    """Wrapper of the encoder's layers while a session is open, which looks tiles up in `store`.

    reader: the reader of the method's signals; None if it reads none. keys: content keys of the next encoding's tiles;
    an encoding of another number of tiles is computed in full.
    """

    def __init__(self, adapter: ModelInterface, store: EncodingStore, reader: SignalReader | None) -> None:
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
                self._handles.append(MethodPatch(module, "forward", self._layer(index, feature, last)))

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
