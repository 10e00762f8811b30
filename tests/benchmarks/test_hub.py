"""A dataset of the hub, from a stand-in for it: one split is fetched, its size said before, and read again offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.benchmarks.fixtures import COUNT, chartqa
from tests.benchmarks.hub_server import COMMIT, serve
from vlmprune.benchmarks.sources import Source, cached_files

CODE = """
import json, sys
from vlmprune.benchmarks.sources import Source
table, identity = Source({name!r}, "me/gone", {config!r}, "test").open({streaming})
print(json.dumps([type(table).__name__, identity, list(table.rows(["question", "answer"]))]))
"""
README = """---
configs:
- config_name: default
  data_files: [{split: train, path: data/train-*}, {split: test, path: [data/test-*]}]
- config_name: cn
  data_files: [{split: test, path: cn/*}]
---
"""


@pytest.fixture
def root(tmp_path):
    """Datasets me/set, of parquet files, and me/lines, of JSON lines, with a train and a test split each."""
    from datasets import Dataset

    rows = [chartqa(k) for k in range(COUNT)]
    (tmp_path / "hub/me/set/data").mkdir(parents=True)
    (tmp_path / "hub/me/lines").mkdir()
    for split in ("train", "test"):
        for part in range(2):
            Dataset.from_list(rows[6 * part : 6 * part + 6]).to_parquet(
                tmp_path / f"hub/me/set/data/{split}-{part:05}-of-00002.parquet"
            )
        lines = [json.dumps({"question": row["question"], "answer": row["answer"]}) for row in rows]
        (tmp_path / f"hub/me/lines/{split}.jsonl").write_text("\n".join(lines))
    (tmp_path / "hub/me/set/README.md").write_text(README)
    return tmp_path / "hub"


def load(address, tmp_path, name, streaming=False, config=None, **variables):
    code = CODE.format(name=name, streaming=streaming, config=config)
    home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | home | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
def test_one_split_is_fetched_once_and_kept(root, tmp_path):
    expected = [{key: chartqa(k)[key] for key in ("question", "answer")} for k in range(COUNT)]
    with serve(root) as (address, fetched):
        kind, identity, rows, said = load(address, tmp_path, "me/set")
        assert (kind, identity, rows) == ("ParquetTable", f"commit:{COMMIT}", expected)
        assert sorted(file for file in fetched if "data/" in file) == [  # in parallel
            f"me/set/data/test-0000{k}-of-00002.parquet" for k in (0, 1)
        ]
        assert f"fetching split 'test' of me/set: 0.1 MB in 2 files, into {tmp_path}/home/hub" in said
        fetched.clear()
        *again, said = load(address, tmp_path, "me/set")
        assert again == [kind, identity, rows] and fetched == [] and "fetching" not in said
    *offline, _ = load(address, tmp_path, "me/set", HF_HUB_OFFLINE="1")
    assert offline == [kind, identity, rows]


@pytest.mark.slow
def test_other_files_than_parquet_and_reading_in_place(root, tmp_path):
    with serve(root) as (address, fetched):
        kind, identity, rows, _ = load(address, tmp_path, "me/lines")
        assert (kind, identity, len(rows)) == ("MemoryTable", f"commit:{COMMIT}", COUNT)
        assert {file for file in fetched if file.endswith("jsonl")} == {"me/lines/test.jsonl"}
        fetched.clear()
        kind, *_, said = load(address, tmp_path, "me/set", streaming=True)
        assert kind == "ParquetTable" and not any("train" in file for file in fetched) and "fetching" not in said
        assert not list((tmp_path / "home/hub").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("readme", "config", "split", "found"),
    [
        (README, None, "test", "data/test-0.parquet"),
        (README, "cn", "test", "cn/test.parquet"),
        (README, "en", "test", None),
        (README, "cn", "x", None),
        ("# No header\n", None, "test", None),
    ],
)
def test_the_cached_files_of_a_split_are_those_that_the_readme_says(
    tmp_path, monkeypatch, readme, config, split, found
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "datasets--me--set"
    folder = cache / "snapshots" / COMMIT
    for name in ("data/train-0.parquet", "data/test-0.parquet", "cn/test.parquet", "README.md", "refs/main"):
        file = (cache if name == "refs/main" else folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text({"README.md": readme, "refs/main": COMMIT}.get(name, ""))
    assert cached_files("me/set", config, split, None) == (found and ([str(folder / found)], COMMIT))


def test_a_local_folder_needs_its_split_alone(tmp_path):
    """The other split's files are damaged: they are not even opened."""
    (tmp_path / "test.jsonl").write_text('{"question": "Why?"}\n')
    (tmp_path / "train.jsonl").write_text("no JSON\n")
    table, _ = Source(str(tmp_path), split="test").open(False)
    assert list(table.rows(["question"])) == [{"question": "Why?"}]
