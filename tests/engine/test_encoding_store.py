"""The feature store: bounded in memory, complete on disk, never wrong."""

from __future__ import annotations

import weakref

import pytest
import torch

from vlmprune.engine.encoding_cache import EncodingStore, size


def entry(number: float, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"hidden": torch.full((10, 10), float(number))} | more  # 400 bytes


def test_the_first_stay_and_the_latest_are_there_too():
    store = EncodingStore(4000)  # room for 7 of the first and 2 of the latest
    held = []
    for number in range(20):
        new = entry(number)
        held.append(weakref.ref(new["hidden"]))
        store.put(str(number), new)
    del new
    there = [number for number in range(20) if store.get(str(number), ["hidden"]) is not None]
    assert there == [0, 1, 2, 3, 4, 5, 6, 18, 19]
    assert store.get("18", ["hidden"])["hidden"][0, 0] == 18
    assert [number for number, reference in enumerate(held) if reference() is not None] == there
    assert size(entry(0)) * len(there) <= 4000


def test_an_entry_grows_by_what_another_method_reads():
    store = EncodingStore(10_000)
    store.put("a", entry(1))
    assert store.get("a", ["hidden", "keys@3"]) is None
    store.put("a", {"keys@3": torch.ones(4)})
    assert store.get("a", ["hidden", "keys@3"])["hidden"][0, 0] == 1
    assert (store.hits, store.misses) == (1, 1)


def test_the_disk_remembers_for_the_next_process(tmp_path):
    store = EncodingStore(0, tmp_path / "features")
    store.put("a", entry(1))
    store.put("a", {"keys@3": torch.arange(6.0).view(2, 3).t()})
    again = EncodingStore(10_000, tmp_path / "features")
    found = again.get("a", ["hidden", "keys@3"])
    assert torch.equal(found["hidden"], entry(1)["hidden"])
    assert torch.equal(found["keys@3"], torch.arange(6.0).view(2, 3).t())


@pytest.mark.parametrize("damage", [b"", b"\x10", b"not safetensors at all" * 10])
def test_a_damaged_file_is_computed_and_written_again(tmp_path, damage):
    store = EncodingStore(0, tmp_path)
    store.put("a", entry(1))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(damage)
    assert store.get("a", ["hidden"]) is None
    store.put("a", entry(2))
    assert store.get("a", ["hidden"])["hidden"][0, 0] == 2
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".safetensors"]
