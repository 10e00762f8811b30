"""The template of a run's prompts, once in predictions.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.distributed.gathered import Gathered
from vlmprune.records import RunDirectory


def row(name: str) -> dict[str, Any]:
    return {"id": name, "prompt": f"{name}?"}


def test_the_first_samples_line_has_it_whichever_is_answered_first(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "b"
    gathered = Gathered(directory, lambda count: None)
    gathered.append([row("a")], [])
    gathered.append([row("b"), row("c")], [])
    assert directory.predictions() == [row("a"), row("b") | {"prompt_template": "USER: {prompt}"}, row("c")]


def test_lines_of_an_older_version_go_on_without(tmp_path: Path) -> None:
    RunDirectory(tmp_path, "").append([{"id": "a"}], [])
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "a"
    directory.append([row("b")], [])
    assert directory.predictions() == [{"id": "a"}, row("b")]
