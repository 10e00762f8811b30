"""Submission files for official evaluation servers, from prediction rows.

Every function takes the rows of predictions.jsonl and returns the file's name and content. The official id of a
question is extra["question_id"], or the row's id if there is none.
"""

from __future__ import annotations

import io
import json
import re
import string
from collections.abc import Callable
from typing import Any

from vlmprune.benchmarks.scoring.choices import letter
from vlmprune.benchmarks.scoring.vqa import evalai_answer

Rows = list[dict[str, Any]]
File = tuple[str, bytes]  # name, content
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # characters that XML 1.0 cannot hold
Format = Callable[[Rows], File]

FORMATS: dict[str, Format] = {}  # by the value of benchmark.submission: package.module.function


def submission_format(function: Format) -> Format:
    """Register a function that makes a submission file: benchmark.submission takes no others, and imports nothing.

    Define your function in the module of your benchmark's class, or in one that it imports.
    """
    FORMATS[f"{function.__module__}.{function.__qualname__}"] = function
    return function


@submission_format
def vqav2(rows: Rows) -> File:
    """Return VQAv2's file for EvalAI (test-dev, test-standard): [{"question_id", "answer"}], normalised as by LLaVA."""
    return _json("vqav2_submission.json", [{"question_id": _number(_id(row)), "answer": _short(row)} for row in rows])


@submission_format
def vizwiz(rows: Rows) -> File:
    """Return VizWiz's file for EvalAI (test): [{"image", "answer"}]; a question's id is its image's name."""
    return _json("vizwiz_submission.json", [{"image": _jpg(str(_id(row))), "answer": _short(row)} for row in rows])


@submission_format
def mmbench(rows: Rows) -> File:
    """Return MMBench's file for OpenCompass's server: a sheet of index, question, A, B, ..., prediction, category.

    Reads extra["index"] and extra["choices"]. The prediction is the raw text, in which the server finds the option.
    """
    letters = string.ascii_uppercase[: max(len(row["extra"]["choices"]) for row in rows)]
    table: list[list[str | int]] = [["index", "question", *letters, "prediction", "category"]]
    for row in rows:
        choices = row["extra"]["choices"]
        options = choices + [""] * (len(letters) - len(choices))
        table.append([int(row["extra"]["index"]), row["question"], *options, row["prediction"], row["category"]])
    return "mmbench_submission.xlsx", _workbook(table)


@submission_format
def mmvet(rows: Rows) -> File:
    """Return the file for MM-Vet's online GPT-4 grader: {"v1_0": answer, ...}."""
    return _json("mmvet_submission.json", {str(_id(row)): row["prediction"] for row in rows})


@submission_format
def seed(rows: Rows) -> File:
    """Return the file for SEED-Bench's leaderboard: lines {"question_id", "prediction"}, a letter or "" for none.

    Reads extra["choices"].
    """
    lines = [{"question_id": _id(row), "prediction": letter(row["prediction"], _choices(row)) or ""} for row in rows]
    return "seed_submission.jsonl", "".join(_dump(line) + "\n" for line in lines).encode()


def _workbook(table: list[list[str | int]]) -> bytes:
    """Return an Excel workbook of one sheet. Numbers stay numbers and texts stay texts, also one like "=1+1"."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.worksheets[0]
    for row, values in enumerate(table, start=1):
        for column, value in enumerate(values, start=1):
            cell = sheet.cell(row, column, value if isinstance(value, int) else ILLEGAL.sub(" ", value))
            cell.data_type = "n" if isinstance(value, int) else "s"  # else "=..." is a formula
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _id(row: dict[str, Any]) -> Any:
    """Return a question's id as the dataset has it, a number if it is one: EvalAI compares ids by value."""
    return row["extra"].get("question_id", row["id"])


def _number(name: Any) -> Any:
    """Return the id as a number if it is digits, as in a table of texts such as .csv."""
    return int(name) if isinstance(name, str) and name.isdecimal() else name


def _short(row: dict[str, Any]) -> str:
    return evalai_answer(row["prediction"])


def _choices(row: dict[str, Any]) -> list[str]:
    return row["extra"]["choices"]


def _jpg(name: str) -> str:
    return name if name.endswith((".jpg", ".png")) else f"{name}.jpg"


def _json(name: str, data: Any) -> File:
    return name, _dump(data).encode()


def _dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)
