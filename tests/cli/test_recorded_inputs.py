"""Content of run directories and configs is data: nothing of it is run, and a class is checked before it is built."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.refusal import refusal
from tests.results.synthetic import make_run
from vlmprune import cli
from vlmprune.config.registry import build_method
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError

EVIL = """\
from pathlib import Path
from vlmprune.benchmarks.scenes import Scenes
Path("ran").touch()
class Mine(Scenes): pass
"""
CONFIGS = {
    "a target that runs": "benchmark: {_target_: os.system, command: touch ran}",
    "a target that would be imported": "benchmark: {_target_: evil.Mine, max_new_tokens: 4}",
    "a nested target": "benchmark: {_target_: vlmprune.benchmarks.scenes.Scenes, prefix: {_target_: os.system}}",
    "a tag that runs": "benchmark: !!python/object/apply:os.system ['touch ran']",
    "a tag that imports": "benchmark: !!python/name:evil.Mine",
    "an object": "benchmark: !!python/object/new:evil.Mine {}",
    "a list": "[1, 2]",
    "a number": "benchmark: 5",
    "nothing": "",
    "bytes": "\x00\xff",
}
ROWS = [None, 5, "x", [], {}, {"id": "q"}, {"prediction": {"$ref": "x"}}, {"id": [1], "answer": 5, "prediction": None}]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, from which `evil` could be imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def refused(*arguments: str) -> str:
    """The one line with which a command refuses."""
    line = refusal(*arguments)
    assert not Path("ran").exists() and "evil" not in sys.modules
    return line


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_recorded_config_is_only_read(folder, capsys, config):
    run = make_run(folder, "cls", 0.9)
    (run / "config.yaml").write_bytes(config.encode("latin-1"))
    assert "config.yaml" in refused("score", str(run))
    assert cli.main(["compare", str(run)]) == 0
    assert "cls" in capsys.readouterr().out and not Path("ran").exists() and "evil" not in sys.modules


def test_a_users_own_benchmark_is_scored_where_it_is_named_again(folder, capsys):
    (folder / "configs/benchmark").mkdir(parents=True)
    (folder / "configs/benchmark/mine.yaml").write_text("_target_: mine_for_scoring.Mine\nmax_new_tokens: 4\n")
    (folder / "mine_for_scoring.py").write_text(EVIL)
    run = make_run(folder, "cls", 0.9)
    (run / "config.yaml").write_text("benchmark: {_target_: mine_for_scoring.Mine, max_new_tokens: 4}")
    assert "--config-dir" in refused("score", str(run))
    row = {"id": "q", "image_id": "i", "question": "?", "answer": "red", "category": "c", "prediction": "red"}
    (run / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    (run / "result.json").unlink()  # that is of other answers
    assert cli.main(["score", str(run), "--config-dir", "configs"]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("row", ROWS, ids=json.dumps)
def test_strange_predictions_are_one_line(folder, capsys, row):
    run = make_run(folder, "cls", 0.9)
    (run / "config.yaml").write_text("benchmark: {_target_: vlmprune.benchmarks.scenes.Scenes, max_new_tokens: 4}")
    (run / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    before = (run / "result.json").read_text()
    assert "predictions.jsonl" in refused("score", str(run))
    assert (run / "predictions.jsonl").read_text() == json.dumps(row) + "\n"
    assert (run / "result.json").read_text() == before
    assert cli.main(["compare", str(run)]) == 0


class TestTargets:
    """`_target_` of a choice: a subclass of its group's base, of the user's own too, checked before it is built."""

    def choice(self, folder, group, yaml) -> list[str]:
        (folder / f"configs/{group}").mkdir(parents=True, exist_ok=True)
        (folder / f"configs/{group}/mine.yaml").write_text(yaml)
        return ["run", "--config-dir", "configs", f"{group}=mine", "ratio=0.5", "limit=1"]

    @pytest.mark.parametrize("group", ["method", "benchmark", "logger"])
    @pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.exec", "vlmprune.errors.UserError"])
    def test_others_are_never_built(self, folder, group, target):
        arguments = self.choice(folder, group, f"_target_: {target}\ncommand: touch ran\nargs: [touch, ran]\n")
        assert f"_target_ '{target}' is not a subclass of vlmprune." in refused(*arguments)
        assert not list(folder.rglob("config.yaml"))

    @pytest.mark.parametrize(
        "part", ["{name: cls, _target_: os.system}", "{_target_: os.system}", "{name: sub}", "os.system"]
    )
    def test_parts_of_a_composed_method(self, folder, part):
        self.choice(folder, "method", "_target_: os.system\n")
        (folder / "configs/method/sub.yaml").write_text("_target_: os.system\n")
        yaml = f"_target_: vlmprune.methods.compose.Compose\nbefore: {part}\ninside: fastv\n"
        refused(*self.choice(folder, "method", yaml))

    @pytest.mark.parametrize("yaml", ["keep_order: {_target_: os.system}", "positions: !!python/name:os.system"])
    def test_values(self, folder, yaml):
        refused(*self.choice(folder, "method", f"_target_: vlmprune.methods.cls.ClsAttention\n{yaml}\n"))

    def test_typed_ones(self, folder):
        for override in ("method._target_=os.system", "++method._target_=os.system", "+logger._target_=os.system"):
            assert "_target_" in refused("run", "ratio=0.5", override)
        with pytest.raises(UserError, match="_target_: unknown setting"):
            build_method("cls", ratio=0.5, _target_="os.system")

    def test_a_module_that_cannot_be_read(self, folder):
        (folder / "halfway.py").write_text("class Mine(")
        line = refused(*self.choice(folder, "method", "_target_: halfway.Mine"))
        assert "'halfway.Mine' cannot be imported" in line and "halfway.py, line 1" in line

    def test_listing_and_composing_import_nothing(self, folder, capsys):
        self.choice(folder, "method", "_target_: evil.Mine\ninfo: {title: x, needs: []}\n")
        assert cli.main(["list", "methods", "--config-dir", "configs"]) == 0
        assert "\nmine " in capsys.readouterr().out
        compose_run(["method=mine", "ratio=0.5"], str(folder / "configs"))
        assert "evil" not in sys.modules
