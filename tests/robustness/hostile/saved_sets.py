"""Parquet files and folders of save_to_disk: damaged, of odd types, or pointing elsewhere."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.robustness.finished import edit_json, with_value
from tests.robustness.hostile.folders import QUICK
from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "saved sets")

RUN = ("run", "benchmark=okvqa", "method=none", "benchmark.max_new_tokens=2", *QUICK)
PARQUET = (*RUN, "benchmark.path=set.parquet")
SAVED = (*RUN, "benchmark.path=set")


@cache
def picture() -> bytes:
    """Return a PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def rows() -> dict[str, list[Any]]:
    """Return the columns of one good row of OK-VQA."""
    return {"question_id": [1], "question": ["What"], "answers": [["red"]], "image": [picture()]}


def parquet(column: str | None = None, make: Callable[[Any], Any] | None = None, **options: Any) -> Callable:
    """Write one good row as set.parquet, a column of it as `make(pyarrow)` has it."""

    def prepare(place: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        columns = rows()
        if column is not None and make is not None:
            columns[column] = make(pyarrow)
        pyarrow.parquet.write_table(pyarrow.table(columns), place / "set.parquet", **options)

    return prepare


def edited(edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Write one good row as set.parquet, then change its bytes."""

    def prepare(place: Path) -> None:
        parquet()(place)
        file = place / "set.parquet"
        file.write_bytes(edit(file.read_bytes()))

    return prepare


@cache
def saved_files() -> dict[str, bytes]:
    """Return the files of a saved set of one good row, by name."""
    import tempfile

    import datasets

    data = datasets.Dataset.from_dict(rows() | {"image": [{"bytes": picture(), "path": None}]})
    with tempfile.TemporaryDirectory() as folder:
        data.cast_column("image", datasets.Image()).save_to_disk(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def saved(edit: Callable[[Path], object]) -> Callable[[Path], None]:
    """Write a saved set of one good row, then do something to its folder."""

    def prepare(place: Path) -> None:
        folder = place / "set"
        folder.mkdir()
        for name, content in saved_files().items():
            (folder / name).write_bytes(content)
        edit(folder)

    return prepare


def fields(name: str, **changes: Any) -> Callable[[Path], None]:
    """Write a saved set, one JSON file of which has other fields."""
    return saved(lambda folder: edit_json(folder / name, lambda data: data.update(changes)))


def content(name: str, text: str) -> Callable[[Path], None]:
    """Write a saved set, one file of which says something else."""
    return saved(lambda folder: (folder / name).write_text(text))


def at_arrow(do: Callable[[Path], object]) -> Callable[[Path], None]:
    """Write a saved set, and do something to its Arrow file."""
    return saved(lambda folder: do(next(folder.glob("*.arrow"))))


def feature(column: str, value: Any) -> Callable[[Path], None]:
    """Write a saved set whose info declares a column as something else."""
    return saved(lambda folder: edit_json(folder / "dataset_info.json", with_value(f"features.{column}", value)))


def as_pipe(file: Path) -> None:
    """Put a pipe in place of a file."""
    file.unlink()
    os.mkfifo(file)


def bad_utf8(pyarrow: Any) -> Any:
    """Return a text column of one cell that is not UTF-8."""
    ends = pyarrow.py_buffer((0).to_bytes(4, "little") + (2).to_bytes(4, "little"))
    return pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, ends, pyarrow.py_buffer(b"\xff\xfe")])


COLUMNS: dict[str, tuple[str, Callable[[Any], Any]]] = {  # name -> a column, and what is in it
    "a date past 9999": ("question", lambda pa: pa.array([2**30], pa.date32())),
    "a date in milliseconds": ("answers", lambda pa: pa.array([2**62 // 86_400_000 * 86_400_000], pa.date64())),
    "an endless duration": ("question_id", lambda pa: pa.array([2**62], pa.duration("s"))),
    "a zone of Mars": ("question", lambda pa: pa.array([1], pa.timestamp("s", tz="Mars/Phobos"))),
    "no UTF-8": ("question", bad_utf8),
    "no UTF-8 in the answers": ("answers", bad_utf8),
    "a date as the picture": ("image", lambda pa: pa.array([2**30], pa.date32())),
    "bytes as the question": ("question", lambda pa: pa.array([b"\xff\xfe"])),
    "an object as the question": ("question", lambda pa: pa.array([{"a": 1}])),
    "lists as the answers": ("answers", lambda pa: pa.array([[["a"]]])),
    "true as the answers": ("answers", lambda pa: pa.array([True])),
    "a number as the picture": ("image", lambda pa: pa.array([7])),
    "text as the picture": ("image", lambda pa: pa.array(["nowhere.png"])),
    "lists as the picture": ("image", lambda pa: pa.array([[["a"]]])),
    "1 MB as the question": ("question", lambda pa: pa.array(["x" * 1_000_000])),
    "20 MB as the question": ("question", lambda pa: pa.array(["x" * 20_000_000])),
    "nulls": ("question", lambda pa: pa.nulls(1)),
}
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "encrypted": lambda data: data[:-4] + b"PARE",
    "a footer of 2 GB": lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1",
    "no footer": lambda data: b"PAR1" + b"\xff" * 8 + b"PAR1",
    "damaged pages": lambda data: data[:4] + bytes(len(data) // 4) + data[4 + len(data) // 4 :],
    "text": lambda data: b"question,answers\n",
}
STATES: dict[str, Any] = {
    "_data_files": [None, 3, [], {}, "x", [3], [{"filename": 3}], [{}], [["x"]], [{"filename": "nowhere.arrow"}]]
    + [[{"filename": name}] for name in ("/etc/passwd", "../set.arrow", "/dev/zero", ".", "http://127.0.0.1:9/a")],
    "_format_columns": [3, [{"a": 1}], True],
    "_format_kwargs": [3, None, True],
    "_format_type": [[], {"a": 1}, 3],
    "_split": [3, {"a": 1}, True],
}
FEATURES: dict[str, tuple[str, Any]] = {
    "a number": ("question", 3),
    "unknown": ("question", {"_type": "Evil"}),
    "an unknown type": ("question", {"dtype": "evil", "_type": "Value"}),
    "a translation": ("question", {"_type": "Translation"}),
    "an array": ("question", {"_type": "Array2D", "shape": [1, 1], "dtype": "int8"}),
    "a picture": ("question", {"_type": "Image"}),
    "nested": ("extra", {"b": {"c": 3}}),
}
JSONS = {"null": "null", "a list": "[]", "a number": "3", "10,000 brackets": "[" * 10_000, "nothing": "", "{}": "{}"}

CASES = [
    *(
        case(f"parquet: {name}", PARQUET, (), parquet(column, make), quick=name in ("a zone of Mars",))
        for name, (column, make) in COLUMNS.items()
    ),
    *(
        case(f"parquet: {name}", PARQUET, ("set.parquet",), edited(edit), quick=name == "encrypted")
        for name, edit in BYTES.items()
    ),
    case(
        "parquet: 100 million rows of nothing",
        PARQUET,
        ("set.parquet", "rows"),
        lambda place: many_rows(place / "set.parquet"),
    ),
    case("parquet: a pipe", PARQUET, ("set.parquet",), lambda place: os.mkfifo(place / "set.parquet")),
    *(
        case(f"{file}: {name}", SAVED, (file,), content(file, text), quick=text == "null")
        for file in ("state.json", "dataset_info.json")
        for name, text in JSONS.items()
        if (file, text) != ("dataset_info.json", "{}")
    ),
    *(
        case(f"{key}={str(value)[:40]}", SAVED, ("set",), fields("state.json", **{key: value}))
        for key, values in STATES.items()
        for value in values
    ),
    *(case(f"feature: {name}", SAVED, (), feature(column, value)) for name, (column, value) in FEATURES.items()),
    *(
        case(f"info: {key}={value}", SAVED, ("set",), fields("dataset_info.json", **{key: value}))
        for key, value in (("features", 3), ("features", "x"), ("splits", 3), ("version", 3), ("supervised_keys", 3))
    ),
    *(
        case(f"arrow: {name}", SAVED, ("set",), at_arrow(do))
        for name, do in {
            "nothing": lambda file: file.write_bytes(b""),
            "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
            "text": lambda file: file.write_text("x" * 1_000),
            "gone": Path.unlink,
            "a pipe": as_pipe,
            "a device": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
        }.items()
    ),
    *(
        case(f"{name}: a pipe", SAVED, (name,), saved(lambda folder, name=name: as_pipe(folder / name)))
        for name in ("state.json", "dataset_info.json")
    ),
    case(
        "dataset_dict.json without a split",
        SAVED,
        ("benchmark.split=",),
        saved(lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "dataset_dict.json").write_text("x"))),
    ),
]


def many_rows(file: Path) -> None:
    """Write a small parquet file of 100 million rows, all of them null."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: pyarrow.nulls(20_000_000) for name in rows()})
    with pyarrow.parquet.ParquetWriter(file, table.schema) as writer:
        for _ in range(5):
            writer.write_table(table)
