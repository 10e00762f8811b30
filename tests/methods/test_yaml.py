"""Every configs/method/*.yaml says what its class says, because `vlmprune list` imports no torch."""

import dataclasses
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from vlmprune.config.registry import build_method
from vlmprune.methods.base import Method

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "method").glob("*.yaml"))
INFO = ["title", "paper", "stage", "needs", "merges", "positions"]
RUN_LEVEL = {"ratio", "keep", "positions", "scope", "budget"}  # set at the top level of the run config


def method_class(config: dict) -> type:
    module, _, name = config["_target_"].rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_info_is_the_class(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    method, info = method_class(config)(), config["info"]
    assert list(info) == INFO
    assert info["title"]
    for name in ("paper", "stage", "merges"):
        assert info[name] == getattr(method, name), name
    assert info["positions"] == method.published_positions
    assert tuple(info["needs"]) == method.needs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fields_and_defaults_are_the_dataclass(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    method = method_class(config)()
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    given = {name: value for name, value in config.items() if name not in ("_target_", "info")}
    assert set(given) == set(fields) - RUN_LEVEL
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("${"):
            continue  # taken from the run config
        default = fields[name]
        if isinstance(default, Method):  # a part of a composed method, by name
            value = build_method(value)
        assert value == (list(default) if isinstance(default, tuple) else default), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_starts_with_a_comment_and_comments_every_field(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    own = [line for line in lines if line[0].islower()]
    uncommented = [line for line in own if "#" not in line and not line.startswith(("info:", "keep_order:"))]
    assert uncommented == []
