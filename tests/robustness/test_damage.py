"""Records that were damaged: what can be trusted is used, the rest is asked again or refused in one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.robustness.left import left, run_folders
from vlmprune.errors import UserError
from vlmprune.evaluation.run_directory import RunDirectory


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """The directory of a finished small run."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (folder,) = run_folders(tmp_path)
    return folder


@pytest.mark.parametrize("name", ["predictions.jsonl", "kept.jsonl"])
def test_a_last_line_cut_at_every_byte(name, done, go, calm, tmp_path):
    """Read back at every cut; the run itself goes on from three of them."""
    content = (done / name).read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    directory = RunDirectory(done, "")
    whole = directory.predictions() if name == "predictions.jsonl" else directory.kept()
    cuts = range(last, len(content))
    for cut in cuts:
        (done / name).write_bytes(content[:cut])
        read = directory.predictions() if name == "predictions.jsonl" else directory.kept()
        assert read == whole[:-1], f"cut at byte {cut - last} of {len(cuts)}"
        assert (done / name).read_bytes() == content[:last]
    assert len(cuts) > 40, f"only {len(cuts)} cuts"
    for cut in (last, last + 1, len(content) - 1):
        (done / "result.json").unlink()
        (done / name).write_bytes(content[:cut])
        go(tmp_path)
        assert left(tmp_path) == calm, f"another outcome after a cut at byte {cut - last} of {len(cuts)}"


def test_an_answer_whose_kept_tokens_are_lost_is_asked_again(done, go, calm, tmp_path, capsys):
    (done / "result.json").unlink()
    kept = (done / "kept.jsonl").read_text().splitlines(keepends=True)
    (done / "kept.jsonl").write_text("".join(kept[:3]))
    go(tmp_path)
    assert "5 answers have no kept tokens" in capsys.readouterr().err
    assert left(tmp_path) == calm


DAMAGED = {
    "result.json": ["", "finished", "[]", "{}", '{"score": NaN}', "\x00\x01"],
    "environment.json": ["", "{", "[]", "3", '{"environments": []}', "null"],
}


@pytest.mark.parametrize(("name", "content"), [(name, content) for name in DAMAGED for content in DAMAGED[name]])
def test_a_damaged_file(name, content, done, go, calm, tmp_path):
    if name != "result.json":
        (done / "result.json").unlink()
    (done / name).write_text(content)
    way_on = ", and the same command makes it again" if name == "result.json" else " to resume"
    with pytest.raises(UserError, match=rf"{name} cannot be read .*: delete it{way_on}"):
        go(tmp_path)
    assert (done / name).read_text() == content
    (done / name).unlink()
    go(tmp_path)
    assert left(tmp_path) == calm


def test_a_result_cut_at_any_byte(done):
    content = (done / "result.json").read_text()
    fingerprint = json.loads(content)["fingerprint"]
    cuts = range(0, len(content) - 2, 7)  # up to the closing bracket and the end of its line
    for cut in cuts:
        (done / "result.json").write_text(content[:cut])
        with pytest.raises(UserError, match="cannot be read"):
            _ = RunDirectory(done, fingerprint).result
        assert RunDirectory(done, fingerprint).result_or_none is None, f"cut at {cut}"
    assert len(cuts) > 100, f"only {len(cuts)} cuts"


def test_what_belongs_to_another_run_is_never_touched(done, go, tmp_path):
    for name in ("result.json", "environment.json"):
        content = json.loads((done / name).read_text())
        (done / name).write_text(json.dumps(content | {"fingerprint": "f" * 64}))
        with pytest.raises(
            UserError, match=f"{name} belongs to another run \\(ffffffffffff, this one is .*move it away"
        ):
            go(tmp_path)
        (done / name).unlink()
        (done / "result.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "VizWiz', "line 2 is not JSON"),
        ("", "line 2 is not JSON"),
        ("[1]", "line 2 is no answer to a sample .Input should be an object"),
        ("\x00" * 30, "line 2 is not JSON"),
        ('{"di": "x"}', "line 2 is no answer to a sample"),
        ("first", "has two answers to sample .*, lines 1 and 2: remove one"),
    ],
)
def test_a_damaged_line_in_the_middle(line, reason, done, go, calm, tmp_path):
    (done / "result.json").unlink()
    file = done / "predictions.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[0] if line == "first" else line, *lines[2:]]) + "\n")
    before = file.read_bytes()
    with pytest.raises(UserError, match=f"predictions.jsonl {reason}"):
        go(tmp_path)
    assert file.read_bytes() == before, "a damaged file was changed"
    file.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    go(tmp_path)
    assert left(tmp_path) == calm


def test_leftovers_of_killed_processes_are_removed_and_never_read(done, go, calm, tmp_path):
    (done / "result.json").unlink()
    leftovers = [done / f".{name}.4194303" for name in ("result.json", "config.yaml", "environment.json")]
    for leftover in leftovers:
        leftover.write_text("half")
    shutil.rmtree(done / "pictures")
    go(tmp_path)
    assert left(tmp_path) == calm  # which also looks for leftovers
    assert sum(leftover.exists() for leftover in leftovers) == 0


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["zz", "zz"], "bad.jsonl has two lines about sample zz, lines 1 and 2: remove one"),
        (["zz"], "bad.jsonl leaves out 'zz', which is no question of this run: remove the line"),
        ([None], "bad.jsonl leaves out '.*', which predictions.jsonl answers: remove one of the lines"),
    ],
)
def test_lines_about_samples_that_are_not_left_out(names, told, done, go, tmp_path):
    (done / "result.json").unlink()
    answered = json.loads((done / "predictions.jsonl").read_text().splitlines()[0])["id"]
    rows = [{"id": name or answered, "reason": "it is torn"} for name in names]
    (done / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=told):
        go(tmp_path)
