"""Store of vision encodings by tile, so that further questions, methods and ratios need not encode the tile again.

Entries do not depend on a method: each holds the hidden states of the layer that the projector reads and, by layer, the
attention signals that methods have asked for so far. The key is the tile's content. Entries are kept in memory on the
CPU and, if a folder is given, on disk.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlmprune.errors import UserError

Entry = dict[str, Tensor]  # name -> the encoder's output or signal for one tile, without a batch dimension

DIGEST = "sha256"  # metadata key in a file's header: a file with another digest is computed again
FIRST = 0.75  # share of the memory for the entries that came first


class FeatureStore:
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
        if self._sizes["first"] + new <= FIRST * self.memory:
            self._first[key] = entry
            self._sizes["first"] += new
            return
        self._latest[key] = entry
        self._sizes["latest"] += new
        while self._latest and self._sizes["latest"] > (1 - FIRST) * self.memory:
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
