"""Paths of vlmprune 0.1 work in a user's YAMLs and run directories; a user's imports of moved modules are explained."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

from vlmprune.cli import main
from vlmprune.config.moved import MOVED, current_target
from vlmprune.config.registry import build_method, check_recorded_target, target_class
from vlmprune.errors import UserError
from vlmprune.methods.base import Method


def test_moved_modules_are_there():
    for new in MOVED.values():
        assert import_module(new)


def test_old_modules_are_gone():
    """But for the three whose names now belong to other modules or packages."""
    left = {old for old in MOVED if (find_spec(old.rpartition(".")[0]) and find_spec(old)) is not None}
    assert left == {"vlmprune.config"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vlmprune.launchers.inprocess.InProcess", "vlmprune.launchers.task.InProcess"),
        ("vlmprune.loggers.wandb.WandbLogger", "vlmprune.loggers.wandb.WandbLogger"),
        ("mine.random.Random", "mine.random.Random"),
    ],
)
def test_old_paths_of_classes(old, new):
    assert current_target(old) == new


def test_old_target_in_a_yaml(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("_target_: vlmprune.methods.random.Random\n")
    method = build_method("mine", ratio=0.5, config_dir=str(tmp_path))
    assert type(method) is target_class("vlmprune.methods.baselines.Random", Method)


def test_old_target_in_a_run_directory(tmp_path):
    assert (
        check_recorded_target("vlmprune.benchmarks.gqa.Gqa", "benchmark", None)
        == "vlmprune.benchmarks.short_answers.Gqa"
    )
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark/mine.yaml").write_text("_target_: vlmprune.benchmarks.mvbench.MvBench\n")
    for target in ("vlmprune.benchmarks.mvbench.MvBench", "vlmprune.benchmarks.video.MvBench"):
        assert check_recorded_target(target, "benchmark", str(tmp_path)) == "vlmprune.benchmarks.video.MvBench"
    with pytest.raises(UserError, match="of no benchmark here"):
        check_recorded_target("vlmprune.methods.random.Random", "benchmark", None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "from vlmprune.methods.decoder_base import DecoderMethod",
            "vlmprune.methods.decoder_base is now vlmprune.methods.decoder_method",
        ),
        ("from vlmprune.pruning.probe import attention_rows", "vlmprune.pruning is now vlmprune.engine"),
        ("from vlmprune.config import RunConfig", "vlmprune.config is now vlmprune.config.settings"),
    ],
)
def test_a_users_module_that_imports_a_moved_one(line, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("_target_: imports_moved.Mine\n")
    (tmp_path / "imports_moved.py").write_text(f"{line}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["run", "--config-dir", str(tmp_path), "method=mine", "ratio=0.5"]) == 2
    assert f"_target_ 'imports_moved.Mine' cannot be imported: {told}" in capsys.readouterr().err
