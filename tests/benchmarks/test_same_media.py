"""Questions that share an image_id share its picture, whatever column the user calls that."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext

import pytest
from datasets import Dataset
from pyarrow.parquet import ParquetFile

from tests.benchmarks.fixtures import COUNT, chartqa, pope
from tests.benchmarks.loading import build
from vlmprune.benchmarks import tables
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.media import content_key
from vlmprune.cli import main

BY_TYPE = "+benchmark.columns.image_id=type"  # which names two kinds of charts, not pictures


def write(folder, kind, rows):
    if kind == "parquet":
        Dataset.from_list(rows).to_parquet(folder / "test.parquet", batch_size=3)  # several row groups
        return folder / "test.parquet"
    if kind == "saved":
        Dataset.from_list(rows).save_to_disk(folder / "saved")
        return folder / "saved"
    for k, row in enumerate(rows):
        row["image"].save(folder / f"{k}.png")
    (folder / "test.json").write_text(json.dumps([row | {"image": f"{k}.png"} for k, row in enumerate(rows)]))
    return folder / "test.json"


@pytest.mark.parametrize("kind", ["parquet", "saved", "json"])
def test_another_picture_is_a_bad_sample_whoever_is_asked_first(kind, tmp_path):
    path = write(tmp_path, kind, [chartqa(k) for k in range(6)])
    benchmark = build(["benchmark=chartqa", f"benchmark.path={path}", BY_TYPE])
    samples = benchmark.load()
    assert len({sample.image_id for sample in samples}) == 2
    random.Random(0).shuffle(samples)  # as after a crash, or in another process
    for sample in samples:
        first = str(int(sample.id) % 2)
        said = f"not that of sample {first}, which has the same image_id {sample.image_id}: .*columns.image_id=type"
        with pytest.raises(BadSample, match=said) if sample.id != first else nullcontext():
            benchmark.check_media(sample)


def test_a_run_says_so_in_a_line(tmp_path, capsys):
    path = write(tmp_path, "parquet", [chartqa(k) for k in range(4)])
    settings = ["benchmark=chartqa", f"benchmark.path={path}", BY_TYPE, f"outputs={tmp_path}/out", "logger=none"]
    assert main(["run", "method=none", *settings]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vlmprune:")]
    assert "sample 2: its image is not that of sample 0" in line and "does not name pictures" in line
    settings += ["on_bad_sample=skip", "latency_samples=0", "show.samples=0", "benchmark.max_new_tokens=1"]
    assert main(["run", "method=none", *settings]) == 0
    (file,) = tmp_path.rglob("bad.jsonl")
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["2", "3"]


def test_pictures_that_are_shared_pass(overrides):
    for name in ("pope", "mme", "vqav2", "docvqa", "gqa", "folder", "videomme"):
        benchmark = build(overrides(name))
        for sample in benchmark.load():
            benchmark.check_media(sample)


def test_row_groups_far_apart_are_read_once(tmp_path, monkeypatch):
    """POPE asks about the same images in three categories, which lie one after another in its file."""
    rows = sorted((pope(k) for k in range(COUNT)), key=lambda row: row["category"])
    path = write(tmp_path, "parquet", rows)
    reads = []
    read = ParquetFile.read_row_group
    monkeypatch.setattr(
        ParquetFile, "read_row_group", lambda *args, **named: reads.append(args) or read(*args, **named)
    )

    def reading(held):
        monkeypatch.setattr(tables, "ROW_GROUP_CACHE_BYTES", held)
        reads.clear()
        benchmark = build(["benchmark=pope", f"benchmark.path={path}"])
        for sample in benchmark.load():
            benchmark.check_media(sample)
        return len(reads)

    assert reading(held=2**28) == 4 < reading(held=0)


def test_the_key_is_of_what_is_stored():
    data = [{"bytes": b"abc", "path": None}, {"bytes": b"abc", "path": "other/name.png"}]
    assert content_key(data[:1]) == content_key(data[1:])
    others = [["a.png"], ["b.png"], [{"bytes": None, "path": "c.png"}], data, [{"bytes": b"ab"}, {"bytes": b"c"}], []]
    assert len({content_key(cells) for cells in others}) == len(others)
