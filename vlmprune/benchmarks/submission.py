"""Submission files for official evaluation servers, from prediction rows, and the workbook that MMBench's asks for.

Every function takes the rows of predictions.jsonl and returns the file's name and content. The official id of a
question is extra["question_id"], or the row's id if there is none.
"""

from __future__ import annotations

import io
import json
import re
import string
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from xml.sax.saxutils import escape

from vlmprune.benchmarks.scoring.choices import letter
from vlmprune.benchmarks.scoring.vqa import evalai_answer

_TYPES = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Default Extension="xml" ContentType="application/xml"/>\
<Override PartName="/xl/workbook.xml" \
ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>\
<Override PartName="/xl/worksheets/sheet1.xml" \
ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"""
_RELATION = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" \
Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/></Relationships>"""
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_WORKBOOK = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<workbook xmlns="{_MAIN}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>\
<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"""
_SHEET = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>"""
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # characters that XML 1.0 cannot hold


def workbook(table: Iterable[Sequence[str | int | float]]) -> bytes:
    """Return the file's bytes, the same for the same rows. The first row is the header; numbers stay numbers."""
    rows = "".join(f"<row>{''.join(_cell(value) for value in row)}</row>" for row in table)
    parts = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _RELATION.format(kind="officeDocument", target="xl/workbook.xml"),
        "xl/workbook.xml": _WORKBOOK,
        "xl/_rels/workbook.xml.rels": _RELATION.format(kind="worksheet", target="worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": _SHEET.format(main=_MAIN, rows=rows),
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name)  # its default date is 1980, so equal rows give equal bytes
            archive.writestr(entry, text.encode(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _cell(value: str | int | float) -> str:
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    text = escape(_ILLEGAL.sub(" ", value))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


Rows = list[dict[str, Any]]
File = tuple[str, bytes]  # name, content
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
    table: list[list[str | int | float]] = [["index", "question", *letters, "prediction", "category"]]
    for row in rows:
        choices = row["extra"]["choices"]
        options = choices + [""] * (len(letters) - len(choices))
        table.append([int(row["extra"]["index"]), row["question"], *options, row["prediction"], row["category"]])
    return "mmbench_submission.xlsx", workbook(table)


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
