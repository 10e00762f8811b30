"""The same data from every kind of place, and one clear line from every bad one."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.fixtures import COUNT, chartqa, write_hub_folder
from tests.benchmarks.loading import build
from vlmprune.benchmarks.media import decode_image
from vlmprune.benchmarks.sources import Source
from vlmprune.config.registry import read_choice
from vlmprune.errors import UserError

ROWS = [chartqa(k) for k in range(COUNT)]


@pytest.fixture
def folder(tmp_path):
    write_hub_folder(tmp_path / "hub", read_choice("benchmark", "chartqa"), ROWS)
    return tmp_path / "hub"


def load(path, *overrides):
    benchmark = build(["benchmark=chartqa", f"benchmark.path={path}", *overrides])
    return benchmark, benchmark.load()


def saved(tmp_path, kind):
    from datasets import Dataset, DatasetDict

    table = Dataset.from_list(ROWS)
    if kind == "saved split":
        table.save_to_disk(tmp_path / kind)
    elif kind == "saved dataset":
        DatasetDict({"test": table, "train": table.select([0])}).save_to_disk(tmp_path / kind)
    else:
        table.to_parquet(tmp_path / f"{kind}.parquet", batch_size=5)  # several row groups
        return tmp_path / f"{kind}.parquet"
    return tmp_path / kind


@pytest.mark.parametrize("kind", ["saved split", "saved dataset", "file"])
def test_every_place_gives_the_same_samples_and_images(kind, folder, tmp_path):
    expected, samples = load(folder)
    found, others = load(saved(tmp_path, kind))
    assert others == samples and len(samples) == COUNT
    for sample in samples:
        assert found.images(sample)[0].tobytes() == expected.images(sample)[0].tobytes()


def test_images_beside_a_json_file(tmp_path):
    for k, row in enumerate(ROWS):
        row["image"].save(tmp_path / f"{k}.png")
    rows = [row | {"image": f"{k}.png"} for k, row in enumerate(ROWS)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark, samples = load(tmp_path / "all.jsonl")
    assert benchmark.images(samples[3])[0].tobytes() == ROWS[3]["image"].tobytes()


def test_another_picture_under_the_same_name_is_other_data(tmp_path):
    for k, row in enumerate(ROWS):
        row["image"].save(tmp_path / f"{k}.png")
    rows = [row | {"image": {"path": f"{k}.png"} if k % 2 else f"{k}.png"} for k, row in enumerate(ROWS)]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    before, _ = load(tmp_path / "all.json")
    assert load(tmp_path / "all.json")[0].identity() == before.identity()
    for k in (3, 4):
        ROWS[5]["image"].save(tmp_path / f"{k}.png")
        after, _ = load(tmp_path / "all.json")
        assert after.identity() != before.identity()
        before = after


def test_an_image_folder_with_metadata(tmp_path):
    (tmp_path / "test").mkdir()
    lines = []
    for k, row in enumerate(ROWS):
        row["image"].save(tmp_path / "test" / f"{k:02}.png")
        lines.append(
            json.dumps({key: value for key, value in row.items() if key != "image"} | {"file_name": f"{k:02}.png"})
        )
    (tmp_path / "test" / "metadata.jsonl").write_text("\n".join(lines))
    benchmark, samples = load(tmp_path)
    assert len(samples) == COUNT
    assert benchmark.images(samples[3])[0].tobytes() == ROWS[3]["image"].tobytes()


def test_a_rewritten_file_is_read_afresh(folder):
    before, _ = load(folder)
    write_hub_folder(folder, read_choice("benchmark", "chartqa"), [row | {"question": "New?"} for row in ROWS])
    after, samples = load(folder)
    assert {sample.question for sample in samples} == {"New?"}
    assert before.identity() != after.identity()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["benchmark.path=/no/such/folder"], "/no/such/folder: no such folder"),
        (["benchmark.split=tset"], "benchmark.split=tset.*did you mean 'test'"),
        (["benchmark.config=en"], "en"),
        (["benchmark.columns.question=querstion"], "benchmark.columns.question=querstion.*did you mean 'question'"),
        (["+benchmark.columns.hint=tip"], "benchmark.columns.hint=tip"),
        (["+benchmark.where.type=none"], "no row of split 'test' belongs"),
        (["+benchmark.where.kind=x"], "benchmark.where=kind"),
    ],
)
def test_a_bad_setting_is_one_clear_line(overrides, named, folder):
    with pytest.raises(UserError, match=named) as caught:
        load(folder, *overrides)
    assert "\n" not in str(caught.value)


def test_bad_places(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("x\n1\n")
    from datasets import Dataset

    Dataset.from_list(ROWS).select([]).to_parquet(tmp_path / "zero.parquet")
    for name, said in (
        ("empty", "empty"),
        ("a.csv", "columns.*: no such column.*there are: x"),
        ("zero.parquet", "split 'test' is empty"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("streaming", [True, False])
def test_the_hubs_way_gives_the_same_rows(streaming, folder):
    # A folder stands in for the hub: `datasets` resolves both to files of a split.
    source = Source("lmms-lab/nowhere", fallback=str(folder), split="test")
    table, identity = source.open(streaming)
    assert type(table).__name__ == "ParquetTable"  # what is fetched is not converted either
    assert identity.startswith("commit:")
    texts = ["question", "answer", "type"]
    assert list(table.rows(texts)) == [{key: row[key] for key in texts} for row in ROWS]
    assert decode_image(table.cell(7, "image")).tobytes() == ROWS[7]["image"].tobytes()
