"""Folders of questions, and the text files that they are in: what a row holds, what a file is, where they point."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "folders")

QUICK = ("latency_samples=0", "show.samples=0", "logger=none")
RUN = ("run", "benchmark=folder", "benchmark.path=data", "method=none", "benchmark.max_new_tokens=2", *QUICK)
ROW = {"id": "q", "image": "a.png", "question": "What color", "answer": "red"}
LONG = "x" * 1_000_000

Prepare = Callable[[Path], None]


def folder(content: str | bytes | None = None, name: str = "questions.jsonl", also: Prepare | None = None) -> Prepare:
    """Write data/a.png and the file `name` beside it, of one good row where no content is given; then do `also`."""

    def prepare(place: Path) -> None:
        data = place / "data"
        data.mkdir()
        Image.new("RGB", (8, 8), "red").save(data / "a.png")
        text = json.dumps(ROW) + "\n" if content is None else content
        (data / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        if also is not None:
            also(data)

    return prepare


def row(**changes: Any) -> str:
    """One good row with other fields, as a line."""
    return json.dumps(ROW | changes) + "\n"


def replaced(name: str, make: Callable[[Path], object]) -> Prepare:
    """Put something else in place of a file of the folder."""

    def prepare(data: Path) -> None:
        (data / name).unlink(missing_ok=True)
        make(data / name)

    return prepare


def nested(field: str, depth: int) -> str:
    """One row whose field is so many lists in each other."""
    return row(**{field: "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)


FIELDS: dict[str, dict[str, Any]] = {  # field -> what it holds, by name; each is one broken sample
    "question": {
        "an object": {"a": {"b": 1}},
        "a list of objects": [{"a": 1}],
        "lists in lists": [[["What"]]],
        "a list": ["What", "Who"],
        "null": None,
        "1 MB": LONG,
        "1 MB of words": "red or blue? " * 80_000,
    },
    "answer": {
        "true": True,
        "an object": {"a": 1},
        "lists in lists": [[["red"]]],
        "a list with true": [1, None, "red", True],
        "1 MB": LONG,
        "100,000 texts": [f"answer {number}" for number in range(100_000)],
    },
    "choices": {
        "a number": 3,
        "true": True,
        "text": "no list",
        "lists": [["a"], ["b"]],
        "objects": [{"a": 1}],
        "100,000 texts": ["a"] * 100_000,
        "27 texts": [str(number) for number in range(27)],
        "1 MB each": [LONG, "red"],
        "an object without letters": {"first": "red"},
        "1 MB of brackets": "[" * 1_000_000,
    },
    "image": {
        "a number": 7,
        "true": True,
        "a list of lists": [["a.png"]],
        "an object": {"file": "a.png"},
        "bytes that are a number": {"bytes": 3},
        "a path that is a list": {"path": ["a.png"]},
        "a name of 5,000 characters": "a" * 5_000,
        "NUL": "a\0.png",
        "an http address": "http://127.0.0.1:9/a.png",
        "a file address": "file:///etc/hostname",
        "an s3 address": "s3://bucket/a.png",
        "a home": "~/a.png",
        "a device": "/dev/zero",
        "/proc/self/mem": "/proc/self/mem",
        "a folder": "..",
        "a text file": "questions.jsonl",
        "a data URI of text": "data:text/plain,hello",
        "100,000 names": ["a.png"] * 100_000,
        "half of a pair": "\ud800.png",
    },
    "id": {"an object": {"a": 1}, "lists in lists": [[["q"]]], "1 MB": LONG},
    "category": {"an object": {"a": 1}, "lists in lists": [[["q"]]], "1 MB": LONG},
}
SOON = {("question", "an object"), ("image", "an http address")}

CONTENTS: dict[str, tuple[str, str | bytes, str]] = {  # name -> the file, its content, what the line names
    "a scalar": ("questions.jsonl", "3\n", "line 1"),
    "a list after an object": ("questions.jsonl", row() + "[1]\n", "line 2"),
    "10,000 brackets": ("questions.jsonl", "[" * 10_000, "questions.jsonl"),
    "400 lists in the image": ("questions.jsonl", nested("image", 400), "line 1"),
    "900 lists in a field of no role": ("questions.jsonl", nested("notes", 900), "line 1"),
    "half of a pair, deep": ("questions.jsonl", nested("image", 600).replace("red", "\\ud800"), "line 1"),
    "an integer of 5,000 digits": ("questions.jsonl", row(answer=5).replace("5", "5" * 5_000), "line 1"),
    "nothing": ("questions.jsonl", "", "is empty"),
    "NUL": ("questions.jsonl", b"\0" * 100, "line 1"),
    "Latin-1": ("questions.jsonl", b'{"image": "a.png", "question": "\xe9"}', "UTF-8"),
    "UTF-16": ("questions.jsonl", row().encode("utf-16"), "UTF-8"),
    "no image": ("questions.jsonl", '{"question": "What"}\n', "image"),
    "a header twice": ("questions.csv", "image,image,question\na,b,c\n", "image"),
    "30,000 columns, each twice": ("questions.csv", ",".join(f"c{n % 15000}" for n in range(30_000)), "two columns"),
    "no header": ("questions.csv", "a.png,What\na.png,Who\n", "image"),
    "a field too many": ("questions.csv", "image,question\na.png,What,red\n", "line 2"),
    "a list that never ends": ("questions.csv", f'image,question\na.png,"[{"[" * 1_000_000}"\n', "question"),
    "a list of 2 MB": ("questions.csv", f'image,question\na.png,"[{"1," * 1_000_000}]"\n', "question"),
    "a field of 1 MB": ("questions.tsv", f"image\tquestion\na.png\t{LONG}\n", "question"),
    "a quote that never ends": ("questions.csv", 'image,question\na.png,"x' + "y,z\n" * 100_000, "question"),
    "a script": ("questions.py", "raise SystemExit(open('ran', 'w').write('ran'))", "questions.py"),
    "an archive": ("questions.zip", b"PK\3\4", "questions.zip"),
}

PLACES: dict[str, tuple[str, Callable[[Path], object]]] = {  # name -> a file of the folder, and what stands there
    "a pipe": ("questions.jsonl", os.mkfifo),
    "a folder": ("questions.jsonl", Path.mkdir),
    "a device": ("questions.jsonl", lambda file: file.symlink_to("/dev/zero")),
    "this process's memory": ("questions.jsonl", lambda file: file.symlink_to("/proc/self/mem")),
    "a link in a circle": ("questions.jsonl", lambda file: file.symlink_to(file.name)),
    "a link to nothing": ("questions.jsonl", lambda file: file.symlink_to("nothing")),
    "a pipe as the picture": ("a.png", os.mkfifo),
    "a device as the picture": ("a.png", lambda file: file.symlink_to("/dev/zero")),
    "a link in a circle as the picture": ("a.png", lambda file: file.symlink_to(file.name)),
    "a folder as the picture": ("a.png", Path.mkdir),
}

# What `datasets` reads: a folder as the hub has it, whose README says which files are in it.
HUB = ("run", "benchmark=okvqa", "benchmark.path=data", "benchmark.split=train", "method=none", *QUICK)
READMES = {
    "no YAML": "- [",
    "a number": "3",
    "configs of another type": "configs: 3",
    "files of another type": "configs:\n- config_name: default\n  data_files: 7",
    "a file outside": "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: ../../etc/passwd",
    "an address": "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: http://127.0.0.1:9/a.csv",
    "features of another type": "dataset_info:\n  features: 3",
}
DATA_FILES = {
    "train.arrow": b"ARROW1\0\0zzzz",
    "train.parquet": b"PAR1zzzzPAR1",
    "train.zip": b"PK\3\4aaaa",
    "train.jsonl.gz": b"\x1f\x8b123",
    "train.h5": b"\x89HDF",
    "train.py": b"open('ran', 'w').write('ran')",
}

CASES = [
    *(
        case(
            f"{field}: {name}",
            RUN,
            ("sample ", "choice" if field == "choices" else f"its {field}"),
            folder(row(**{field: value})),
            quick=(field, name) in SOON,
        )
        for field, values in FIELDS.items()
        for name, value in values.items()
    ),
    *(
        case(name, (*RUN, f"benchmark.questions={file}"), (named,), folder(content, file))
        for name, (file, content, named) in CONTENTS.items()
    ),
    *(
        case(f"{name} in place of it", RUN, (file,), folder(also=replaced(file, make)), quick=make is os.mkfifo)
        for name, (file, make) in PLACES.items()
    ),
    *(
        case(f"README: {name}", HUB, ("data",), folder(f"---\n{text}\n---\n", "README.md"))
        for name, text in READMES.items()
    ),
    *(case(f"{name} alone", HUB, ("data",), folder(content, name)) for name, content in DATA_FILES.items()),
    case("path: 5,000 characters", (*RUN, f"benchmark.path={'a' * 5_000}"), ("benchmark.path=a",)),
    case("path: a device", (*HUB, "benchmark.path=/dev/zero"), ("benchmark.path=/dev/zero",)),
    case(
        "path: a pipe",
        (*HUB, "benchmark.path=./data/a.jsonl"),
        ("benchmark.path=./data/a.jsonl",),
        folder(also=replaced("a.jsonl", os.mkfifo)),
        quick=True,
    ),
]
