"""What the vision encoder gave for a tile, kept for the next question, method or ratio that needs it again.

Nothing here depends on a method: an entry holds the hidden states of the layer that the projector reads and, by layer,
the attention signals that methods asked for so far. It is found by the tile's content, on the CPU and, if wanted, on
disk.
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

Entry = dict[str, Tensor]  # name -> what the encoder gave for one tile, without a batch dimension

DIGEST = "sha256"  # in a file's header: what is not as it was written is computed again
FIRST = 0.75  # share of the memory for the entries that came first


class FeatureStore:
    """Entries by the content of their tile.

    memory: bytes; a sweep goes through the same images again and again, so the first ones to come stay for good, and
    the rest of the memory holds the latest, for questions that follow soon. folder: where entries also lie on disk; it
    must be of one checkpoint in one dtype. Raises UserError where it cannot be written.
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
        """The entry of a tile, or None where one of `names` is not in it."""
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
        """Add to what is known of a tile; tensors on the CPU."""
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
        if self.folder is None or not self._file(key).is_file():  # a pipe would be waited for
            return None
        try:
            with safe_open(self._file(key), "pt") as file:
                recorded = (file.metadata() or {}).get(DIGEST)
                entry = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        except (OSError, SafetensorError):  # cut short by a full disk or by another hand: computed and written again
            return None
        return entry if recorded == digest(entry) else None


def digest(entry: Entry) -> str:
    """sha256 of an entry: names, types, shapes and values."""
    total = hashlib.sha256()
    for name, tensor in sorted(entry.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def size(entry: Entry) -> int:
    """Bytes of an entry."""
    return sum(tensor.nbytes for tensor in entry.values())
