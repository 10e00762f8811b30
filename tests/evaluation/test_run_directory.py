"""The template of a run's prompts, once in predictions.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.distributed.messages import MergedRunDirectory
from vlmprune.evaluation.run_directory import RunDirectory


def row(name: str) -> dict[str, Any]:
    return {
        **{"id": name, "image_id": "i", "category": "", "question": f"{name}?", "prompt": f"{name}?", "answer": "yes"},
        **{"prediction": "no", "score": 0.0},
        "encoded": {"slots": 4, "newlines": 0, "tiles": [[2, 2]], "projected": 4, "units": [[4]]},
        **{"sequence": 9, "visual": [[0, 4]], "generated": 2},
    }


def test_the_first_samples_line_has_it_whichever_is_answered_first(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "b"
    gathered = MergedRunDirectory(directory, lambda count: None)
    gathered.append([row("a")], [])
    gathered.append([row("b"), row("c")], [])
    assert directory.predictions() == [row("a"), row("b") | {"prompt_template": "USER: {prompt}"}, row("c")]


def test_lines_of_an_older_version_go_on_without(tmp_path: Path) -> None:
    old = {name: value for name, value in row("a").items() if name != "prompt"}
    RunDirectory(tmp_path, "").append([old], [])
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "a"
    directory.append([row("b")], [])
    assert directory.predictions() == [old, row("b")]
