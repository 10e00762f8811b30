"""Rows of text files as people and other programs write them."""

from __future__ import annotations

import base64
import codecs
import json

import pytest

from tests.benchmarks.fixtures import encoded, picture
from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.row_files import read_rows
from vlmprune.errors import UserError

ROW = {"image": "a.png", "question": "Why?", "answer": "x"}


def read(tmp_path, content, name="rows.jsonl"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(tmp_path / name)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c"])
def test_a_line_ends_at_a_line_feed_alone(character, tmp_path):
    row = ROW | {"question": f"a{character}b"}
    line = json.dumps(row, ensure_ascii=character < " ")
    assert read(tmp_path, f"{line}\r\n\r\n  \n{line}") == [row, row]


@pytest.mark.parametrize(
    "content", [json.dumps(ROW), json.dumps([ROW], indent=1), "image,question,answer\na.png,Why?,x"]
)
def test_a_byte_order_mark(content, tmp_path):
    name = "rows.csv" if content.startswith("image") else "rows.json"
    assert read(tmp_path, codecs.BOM_UTF8 + content.encode(), name) == [ROW]


def test_halves_of_pairs_and_nan(tmp_path):
    content = r'{"a": "x\ud83d", "\uDC00": ["\ud83d\ude00", {"b": "\udc00y"}], "n": NaN, "i": -Infinity}'
    assert read(tmp_path, content) == [
        {"a": "x\ufffd", "\ufffd": ["😀", {"b": "\ufffdy"}], "n": None, "i": "-Infinity"}
    ]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ('{"a": 1}\n[2]', "a.jsonl", r"a\.jsonl line 2: every row must be an object"),
        ("[{}, 3]", "a.json", r"a\.json entry 2: every row must be an object"),
        ('{\n "a": 1\n}', "a.json", "line 1 is not JSON .*; expected a list of objects, or an object a line"),
        ("[" * 100_000, "a.json", "is not JSON"),
        (b'{"a": "\xff"}', "a.json", "is not JSON in UTF-8"),
        (codecs.BOM_UTF16 + "a,b".encode("utf-16-le"), "a.csv", "is not a table in UTF-8"),
        ("a,b\n1,2\n1,2,3\n", "a.csv", r"line 3: it has more fields than the header \(2\)"),
        ("a,a\n1,2\n", "a.csv", "two columns are called a"),
    ],
)
def test_what_cannot_be_read_is_one_line(content, name, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, content, name)
    assert "\n" not in str(caught.value)


def test_a_table_as_programs_write_it(tmp_path):
    lines = [
        ",id,question,answer,options,",
        '0,1,"two\nlines, ""quoted""",,"[\'a\', \'b\']",',
        "",
        "1,1,[1],nan",
        ",,,,,",
        "",
    ]
    content = "\r\n".join(lines)
    assert read(tmp_path, content, "rows.csv") == [
        {"id": "1", "question": 'two\nlines, "quoted"', "answer": None, "options": ["a", "b"]},
        {"id": "1", "question": "[1]", "answer": "nan", "options": None},
    ]
    assert read(tmp_path, "a\tb\n1,5\tx\n", "rows.tsv") == [{"a": "1,5", "b": "x"}]
    assert read(tmp_path, f"a\n{'x' * 300_000}\n", "rows.csv") == [{"a": "x" * 300_000}]


def test_equal_ids_are_told_apart_and_bad_rows_named(tmp_path):
    cell = base64.b64encode(encoded(picture(0))).decode()
    lines = [f"{number},{text},{cell}" for number, text in ((1, "x"), (1, "y"), (2, ""))]
    (tmp_path / "rows.csv").write_text("\n".join(["question_id,answers,image", *lines]))
    columns = ["benchmark.columns.question=question_id", f"benchmark.path={tmp_path}/rows.csv"]
    benchmark = build(["benchmark=okvqa", *columns])
    samples = benchmark.load()
    assert [(sample.id, sample.answer) for sample in samples] == [("1", "x"), ("1#2", "y"), ("2", "")]
    assert benchmark.images(samples[0])[0].tobytes() == picture(0).tobytes()
    with pytest.raises(BadSample, match="its answer is absent"):
        benchmark.images(samples[2])
