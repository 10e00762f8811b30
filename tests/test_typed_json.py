"""Files that were edited: never anything but the data, unharmed, or one line that names the field."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.robustness import finished
from tests.robustness.hostile.records import SWEEP
from vlmprune.errors import UserError
from vlmprune.results.line_schema import Environments, KeptLine, PredictionLine, Scored
from vlmprune.results.picture_index import Picture
from vlmprune.results.schema import Result
from vlmprune.results.sweep_record import SweepRecord
from vlmprune.speed.result_schema import SpeedResult
from vlmprune.typed_json import check_data, parse_json, read_json, read_lines

DEEP = json.loads("[" * 500 + "]" * 500)
VALUES = [None, -1, -0.5, "x", "", [], {}, 1e308, True, DEEP, 10**400, float("nan"), float("inf"), finished.REMOVED]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Name -> a schema, and data that fit it."""
    run = finished.finished_run(tmp_path_factory.mktemp("files"))
    (line, *_), (kept, *_) = (finished.read_lines(run / name) for name in ("predictions.jsonl", "kept.jsonl"))
    picture = {name: line[name] for name in ("id", "question", "answer", "prediction", "score")}
    speed = json.loads(finished.SPEED.read_text())
    return {
        "result": (Result, json.loads((run / "result.json").read_text())),
        "line": (PredictionLine, line),
        "scored": (Scored, line),
        "kept": (KeptLine, kept),
        "environment": (Environments, json.loads((run / "environment.json").read_text())),
        "picture": (Picture, picture | {"file": "1.png", "kept": 14, "total": 144, "panels": "1-kept.png"}),
        "sweep": (SweepRecord, SWEEP),
        "speed": (SpeedResult, speed | {"rows": speed["rows"][1:2]}),
    }


def paths(data: Any, path: str = "") -> Iterator[str]:
    """Every path into the data, of long lists the first two places."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for name, value in pairs:
        if "." in str(name):  # which a path cannot name
            continue
        yield f"{path}{name}"
        yield from paths(value, f"{path}{name}.")


def finite(data: Any) -> bool:
    json.dumps(data, allow_nan=False, default=vars)
    return True


@pytest.mark.parametrize("name", ["result", "line", "scored", "kept", "environment", "picture", "sweep", "speed"])
def test_every_edit_is_refused_in_one_line_or_harmless(name: str, files: dict[str, tuple[Any, Any]]) -> None:
    schema, data = files[name]
    assert parse_json(json.dumps(data), schema)
    refused = 0
    for path in paths(data):
        for value in VALUES:
            edited = copy.deepcopy(data)
            finished.with_value(path, value)(edited)
            try:
                assert finite(parse_json(json.dumps(edited), schema))
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 400, f"{path}={str(value)[:20]}: {error}"
    assert refused > 3 * len(list(data)), f"{refused} refused"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(content=st.binary(max_size=40) | st.text(alphabet='{}[]",:0-eNaI \\u', max_size=40).map(str.encode))
def test_any_bytes_are_data_or_one_line(content: bytes) -> None:
    for schema in (dict[str, Any], Scored):
        try:
            assert finite(parse_json(content, schema))
        except ValueError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("kind", finished.PLACES)
def test_what_is_no_file_of_lines_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    finished.replace(file, kind)
    if kind == "nothing":
        assert read_lines(file, KeptLine, "record") == []
        return
    with pytest.raises(UserError, match=r"kept\.jsonl (cannot be read|line 1 is (not JSON|no record)) \(.+\): "):
        read_lines(file, KeptLine, "record")


def test_the_field_and_its_value_are_told() -> None:
    for data, told in (
        ({"id": "a", "image_id": "b", "score": -1}, "score=-1: Input should be greater than or equal to 0"),
        ({"id": 7, "image_id": "b", "score": 1}, "id=7: Input should be a valid string"),
        ({"id": "a", "score": 1}, "image_id is missing"),
        ([], "Input should be"),
    ):
        with pytest.raises(ValueError, match=f"^{told}"):
            check_data(data, Scored)
    with pytest.raises(ValueError, match="it has schema 3; this version reads 1"):
        parse_json(json.dumps(SWEEP | {"schema": 3}), SweepRecord)


@pytest.mark.parametrize("file", sorted(finished.SPEED.parent.glob("*-[cs]*ed.json")), ids=lambda file: file.name)
def test_committed_results_are_read_as_they_are(file: Path) -> None:
    assert read_json(file, SpeedResult) == json.loads(file.read_text())
