"""The template of a run's prompts, once in predictions.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.distributed.gathered import Gathered
from vlmprune.records import RunDirectory


def row(name: str) -> dict[str, Any]:
    return {"id": name, "prompt": f"{name}?"}


def test_the_first_line_has_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template = "USER: {prompt}"
    gathered = Gathered(directory, lambda count: None)
    gathered.append([row("a"), row("b")], [])
    gathered.append([row("c")], [])
    assert directory.predictions() == [row("a") | {"prompt_template": "USER: {prompt}"}, row("b"), row("c")]


def test_lines_of_an_older_version_go_on_without(tmp_path: Path) -> None:
    RunDirectory(tmp_path, "").append([{"id": "a"}], [])
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template = "USER: {prompt}"
    directory.append([row("b")], [])
    assert directory.predictions() == [{"id": "a"}, row("b")]
