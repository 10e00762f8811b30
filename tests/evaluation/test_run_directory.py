"""The template of a run's prompts, once in predictions.jsonl, and the merging of several processes' answers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from vlmprune.errors import UserError
from vlmprune.evaluation import run_directory
from vlmprune.evaluation.run_directory import RunDirectory


def row(name: str) -> dict[str, Any]:
    return {
        **{"id": name, "image_id": "i", "category": "", "question": f"{name}?", "prompt": f"{name}?", "answer": "yes"},
        **{"prediction": "no", "score": 0.0},
        "encoded": {"slots": 4, "newlines": 0, "tiles": [[2, 2]], "projected": 4, "units": [[4]]},
        **{"sequence": 9, "visual": [[0, 4]], "generated": 2},
    }


def mask(image: str) -> dict[str, Any]:
    return {"image_id": image, "n": 4, "kept": "9"}


def test_the_first_samples_line_has_it_whichever_is_answered_first(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "b"
    directory.append([row("a")], [])
    directory.append([row("b"), row("c")], [])
    assert directory.predictions() == [row("a"), row("b") | {"prompt_template": "USER: {prompt}"}, row("c")]


def test_lines_of_an_older_version_go_on_without(tmp_path: Path) -> None:
    old = {name: value for name, value in row("a").items() if name != "prompt"}
    RunDirectory(tmp_path, "").append([old], [])
    directory = RunDirectory(tmp_path, "")
    directory.prompt_template, directory.first_sample = "USER: {prompt}", "a"
    directory.append([row("b")], [])
    assert directory.predictions() == [old, row("b")]


def write_share(directory: RunDirectory, rank: int, *names: str) -> RunDirectory:
    """The answers of a process that was killed in the middle of a line."""
    share = directory.share(rank)
    share.path.mkdir(parents=True)
    share.prompt_template, share.first_sample = "USER: {prompt}", names[0]
    share.append([row(name) | {"prediction": "é\u2028", "score": 1 / 3} for name in names], [mask("a"), mask(names[0])])
    share.append_bad([{"id": f"bad{rank}", "reason": "torn"}])
    with (share.path / "predictions.jsonl").open("a") as file:
        file.write('{"id": "cut')
    return share


def test_merged_lines_are_those_of_their_process(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "f")
    share = write_share(directory, 1, "1", "2")
    expected = {name: (share.path / name).read_bytes() for name in ("kept.jsonl", "bad.jsonl", "predictions.jsonl")}
    expected["predictions.jsonl"] = expected["predictions.jsonl"].removesuffix(b'{"id": "cut')
    directory.merge_shares()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("step", ["append", "append_bad", "remove"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_while_shares_are_merged_doubles_and_loses_nothing(step, after, tmp_path, monkeypatch) -> None:
    directory = RunDirectory(tmp_path, "f")
    directory.append([row("0")], [mask("a")])  # of process 0, which had the image too
    write_share(directory, 1, "1", "2")
    write_share(directory, 2, "3", "4")
    owner, name = (run_directory.shutil, "rmtree") if step == "remove" else (RunDirectory, step)
    whole = getattr(owner, name)

    def kill(*arguments: Any, **options: Any) -> None:
        if after:
            whole(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, kill)
        with pytest.raises(KeyboardInterrupt):
            directory.merge_shares()
    directory.merge_shares()
    directory.merge_shares()
    assert [row["id"] for row in directory.predictions()] == ["0", "1", "2", "3", "4"]
    assert [row["image_id"] for row in directory.kept()] == ["a", "1", "3"]
    assert [row["id"] for row in directory.bad()] == ["bad1", "bad2"]
    assert not (tmp_path / "processes").exists()


def test_a_process_whose_run_was_killed_may_finish_its_batch(tmp_path, monkeypatch, capsys) -> None:
    directory = RunDirectory(tmp_path, "f")
    share = directory.share(1)
    with share.lock():
        share.append([row("1")], [])
        monkeypatch.setattr(run_directory, "END_SECONDS", 0.0)
        with pytest.raises(UserError, match=r"processes/1 is in use by another vlmprune process: wait for it to end"):
            directory.merge_shares()
        assert "finishes its batch: waiting for" in capsys.readouterr().err
        monkeypatch.setattr(run_directory, "END_SECONDS", 60.0)
        waiting = threading.Thread(target=directory.merge_shares)
        waiting.start()
        share.append([row("2")], [])
    waiting.join(60)
    assert [row["id"] for row in directory.predictions()] == ["1", "2"]


def test_a_refused_run_keeps_what_any_process_answered(tmp_path) -> None:
    directory = RunDirectory(tmp_path / "run", "f")
    write_share(directory, 1, "1")
    directory.discard()
    assert directory.path.exists()
    (directory.share(1).path / "predictions.jsonl").unlink()
    (directory.share(1).path / "bad.jsonl").unlink()
    directory.discard()
    assert not directory.path.exists()
