"""Brackets and :codes: in all that is shown: rich must not read them as markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.results.synthetic import make_run
from tests.robustness import finished
from tests.robustness.finished import RUN, edit_json, with_value
from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "markup")

TEXTS = ("[/x]", "[bold]x[/bold]", "[link=file:///etc/passwd]x", "x:smile:x", "\\[/x]")


def run_named(field: str, text: str) -> Callable[[Path], None]:
    """Prepare a finished run whose result has `text` in one field."""
    return lambda folder: edit_json(finished.finished_run(folder) / "result.json", with_value(field, text))


def runs_named(field: str, text: str) -> Callable[[Path], None]:
    """Prepare two runs whose results have `text` in one field."""

    def prepare(folder: Path) -> None:
        for path in (make_run(folder / "outputs", "none"), make_run(folder / "outputs", "cls", 0.9)):
            edit_json(path / "result.json", with_value(field, text))

    return prepare


def measured(text: str) -> Callable[[Path], None]:
    """Prepare a result of `vlmprune speed` of a model and a method of that name."""

    def prepare(folder: Path) -> None:
        result = json.loads(finished.SPEED.read_text())
        result["model"]["name"] = result["rows"][1]["label"] = text
        (folder / "s.json").write_text(json.dumps(result))

    return prepare


CASES = [
    *(
        case(f"{field} is {text}", ("compare",), (text,), runs_named(field, text), code=0, quick=number == 0)
        for field in ("method", "model", "benchmark", "answers.metric")
        for number, text in enumerate(TEXTS)
    ),
    *(
        case(f"{field} of a finished run is {text}", RUN, (text,), run_named(field, text), code=0)
        for field in ("method", "model", "benchmark", "answers.metric", "media")
        for text in TEXTS[:2]
    ),
    *(
        case(f"speed of {text}", ("speed", "from=s.json", "chart=none"), (text,), measured(text), code=0)
        for text in TEXTS
    ),
    *(
        case(f"outputs={text}", (*RUN, f"outputs='out{text}'"), (f"files  out{text}",), code=0)
        for text in ("[/x]", "[bold]x[/bold]")
    ),
]
