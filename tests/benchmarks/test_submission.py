"""Submission files: the format of each server, and a workbook that is a workbook."""

import io
import json
import re
import sys
import zipfile

import pytest
from openpyxl import load_workbook

from vlmprune.benchmarks import submission
from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.benchmarks.choices import MultipleChoice
from vlmprune.config.registry import target_class
from vlmprune.config.typecheck import construct
from vlmprune.errors import UserError


def row(row_id, prediction, **extra):
    return {"id": row_id, "question": "Which?", "category": "colour", "prediction": prediction, "extra": extra}


def test_vqav2_has_numbers_for_ids_and_normalised_answers():
    name, content = submission.vqav2([row("x", "The Dog.", question_id=42), row("x", "two", question_id="7")])
    assert name.endswith(".json")
    assert json.loads(content) == [{"question_id": 42, "answer": "dog"}, {"question_id": 7, "answer": "2"}]


def test_vizwiz_names_the_image():
    rows = [row("VizWiz_test_0.jpg", "Coke"), row("1", "unanswerable", question_id="VizWiz_test_1")]
    assert json.loads(submission.vizwiz(rows)[1]) == [
        {"image": "VizWiz_test_0.jpg", "answer": "coke"},
        {"image": "VizWiz_test_1.jpg", "answer": "unanswerable"},
    ]


def test_mmvet_maps_ids_to_answers():
    name, content = submission.mmvet([row("v1_0", "Ünïcode, as is.\n"), row("v1_1", "")])
    assert name.endswith(".json") and json.loads(content) == {"v1_0": "Ünïcode, as is.\n", "v1_1": ""}


def test_seed_has_a_letter_per_line():
    choices = ["red", "blue", "green", "black"]
    name, content = submission.seed([row(1, "B. blue", choices=choices), row(2, "no idea", choices=choices)])
    assert name.endswith(".jsonl")
    assert [json.loads(line) for line in content.decode().splitlines()] == [
        {"question_id": 1, "prediction": "B"},
        {"question_id": 2, "prediction": ""},
    ]


def sheet(content):
    """Rows of a workbook's first sheet."""
    return [list(values) for values in load_workbook(io.BytesIO(content)).worksheets[0].values]


def test_mmbench_is_a_sheet_with_raw_predictions():
    rows = [row("7", "B. blue", index=7, choices=["red", "blue"]), row("8", "A", index=8, choices=["x", "y", "z"])]
    name, content = submission.mmbench(rows)
    assert name.endswith(".xlsx")
    assert sheet(content) == [
        ["index", "question", "A", "B", "C", "prediction", "category"],
        [7, "Which?", "red", "blue", None, "B. blue", "colour"],
        [8, "Which?", "x", "y", "z", "A", "colour"],
    ]


def test_a_workbook_holds_any_text():
    texts = ["a < b & 'c' \"d\"", " spaced ", "é 中文", "=1+1", "two\nlines", "\x00\x0b\ud800control", "y" * 40_000]
    _, content = submission.mmbench([row("1", text, index=1, choices=["x"]) for text in texts])
    predictions = [values[3] for values in sheet(content)[1:]]
    assert predictions == [*texts[:5], "   control", "y" * 32_767]  # a cell of Excel's holds no more
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "<f>" not in archive.read("xl/worksheets/sheet1.xml").decode()


def test_a_format_of_ones_own(tmp_path, monkeypatch):
    """It stands in the module of the class that _target_ names; the name itself imports nothing."""
    (tmp_path / "own_format.py").write_text(
        "from vlmprune.benchmarks.choices import MultipleChoice as Base\n"
        "from vlmprune.benchmarks.submission import submission_format\n"
        "@submission_format\ndef names(rows): return 'names.txt', str(len(rows)).encode()\n"
        "def helper(rows): return 'helper.txt', b''\n"
        "class Mine(Base): pass\n"
    )
    (tmp_path / "unasked.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"max_new_tokens": 4, "path": "x"}
    target = target_class("own_format.Mine", Benchmark)
    mine = construct(target, settings | {"submission": "own_format.names"}, "benchmark.")
    assert mine.submission_file([{}, {}]) == ("names.txt", b"2")
    for name in ("own_format.helper", "unasked.names", "os.system", "vlmprune.benchmarks.submission._json"):
        with pytest.raises(UserError, match=f"benchmark.submission={name}: .*allowed: .*own_format.names, vlmprune"):
            construct(target, settings | {"submission": name}, "benchmark.")
    assert "unasked" not in sys.modules


@pytest.mark.parametrize("option", ["{choice!r}", "{choice:9}", "{letter.x}", "{choice[0]}", "{}", "{x}", "{", "no"])
def test_an_option_has_named_fields_alone(option):
    with pytest.raises(UserError, match=re.escape(f"benchmark.option={option}: ")):
        construct(MultipleChoice, {"max_new_tokens": 4, "option": option}, "benchmark.")


def test_braces_of_an_option_are_doubled():
    benchmark = MultipleChoice(max_new_tokens=4, option="{{{letter}}} {choice}\n")
    sample = Sample("1", "1", "Q", "A", "", extra={"choices": ["red", "blue"]})
    assert benchmark.prompt(sample) == "Q\n{A} red\n{B} blue"
