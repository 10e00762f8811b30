"""`vlmprune list models` and `list matrix` say what the code does, though they import none of it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from vlmprune.cli.listing import markdown, matrix, matrix_cell, methods_text, missing_signals
from vlmprune.config.registry import build_method, find_choices, read_choice
from vlmprune.config.settings import ModelConfig
from vlmprune.errors import UserError
from vlmprune.models.base import families, read_family
from vlmprune.models.checkpoint import find_checkpoint, published_config
from vlmprune.models.compatibility import check_pair, check_settings

MODELS = sorted(set(find_choices("model")) - {"path"})
METHODS = {name: read_choice("method", name)["info"] for name in find_choices("method")}


def config_of(name: str):
    return find_checkpoint(ModelConfig("tiny")).config if name == "tiny" else published_config(name)


def depth_of(config) -> int:
    return config.text_config.num_hidden_layers


@pytest.mark.parametrize("name", MODELS)
def test_every_cell_is_what_the_checks_say(name):
    """A method that is listed for a model passes all that is checked before weights load; any other is refused."""
    info, config = read_choice("model", name)["info"], config_of(name)
    family = read_family(config)
    for method_name, method_info in METHODS.items():
        clip = {"clip": "openai/clip-vit-large-patch14-336"} if "text_relevance" in method_info["needs"] else {}
        method = build_method(method_name, ratio=None if method_name == "none" else 0.5, **clip)
        if lack := missing_signals(info, method_info):
            with pytest.raises(UserError, match=f"needs {', '.join(lack)}, which"):
                check_pair(family, method, method_name, name)
        else:
            check_pair(family, method, method_name, name)
            check_settings(method, family, depth_of(config), method_name)


@pytest.mark.parametrize("name", MODELS)
def test_the_facts_are_the_familys(name):
    info, config = read_choice("model", name)["info"], config_of(name)
    assert list(info) == ["title", "family", "parameters", "visual_tokens", "has_cls", "lacks"]
    assert info["family"] == config.model_type in families()
    assert info["has_cls"] == read_family(config).tower.has_cls
    signals = import_module(f"vlmprune.models.families.{info['family']}").SIGNALS
    assert not set(info["lacks"]) & signals
    grid = read_family(config).tower.grid
    if not read_family(config).tower.grid_varies:
        assert str(grid[0] * grid[1]) in info["visual_tokens"]


def test_every_family_is_listed():
    assert {read_choice("model", name)["info"]["family"] for name in MODELS} == set(families())
    assert matrix()[0] == ["method=", *families()]
    assert [row[0] for row in matrix()[1:]] == sorted(METHODS)


def test_models_of_a_family_lack_the_same():
    lacks: dict[str, list[str]] = {}
    for name in MODELS:
        info = read_choice("model", name)["info"]
        assert lacks.setdefault(info["family"], info["lacks"]) == info["lacks"], name


def test_words():
    model = {"has_cls": False, "lacks": ["keys"]}
    assert matrix_cell(model, {"needs": ["keys", "features"]}) == "no keys"
    assert matrix_cell(model, {"needs": ["cls_attention"]}) == "yes (attention received)"
    assert matrix_cell(model | {"has_cls": True}, {"needs": ["cls_attention"]}) == "yes"
    assert matrix_cell(model, {"needs": ["projected", "text_relevance"]}) == "yes (with method.clip)"
    assert matrix_cell(model, {"needs": []}) == "yes"
    assert methods_text({}) == "those of its family"
    assert methods_text({"lacks": []}) == "all"
    assert methods_text({"lacks": ["text_relevance"]}) == "all but cdpruner (text_relevance)"


@pytest.mark.parametrize("kind", ["models", "matrix"])
def test_the_command(kind):
    code = (
        "import sys; from vlmprune.cli import main; assert main(sys.argv[1:]) == 0;"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, "list", kind, "format=markdown"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == markdown(kind)
