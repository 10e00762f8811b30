"""`vlmprune list models` and `list matrix` say what the code does, though they import none of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib import import_module

import pytest

from vlmprune.cli import main
from vlmprune.cli.listing import (
    COLUMNS,
    explain_choice,
    markdown,
    matrix,
    matrix_cell,
    methods_text,
    missing_signals,
    setting_cells,
)
from vlmprune.config.registry import DESCRIPTION, build_method, find_choices, read_choice
from vlmprune.config.settings import ModelConfig
from vlmprune.config.yaml_files import read_yaml
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
    assert methods_text({}, METHODS) == "those of its family"
    assert methods_text({"lacks": []}, METHODS) == "all"
    assert methods_text({"lacks": ["text_relevance"]}, METHODS) == "all but cdpruner (text_relevance)"


def test_the_table_of_models_reads_each_yaml_once(monkeypatch):
    read = Counter[str]()

    def count(file):
        read[f"{file.parent.name}/{file.name}"] += 1
        return read_yaml(file)

    monkeypatch.setattr("vlmprune.config.registry.read_yaml", count)
    assert "all but scm (tiles)" in markdown("models")
    assert read == Counter(f"{group}/{name}.yaml" for group in ("model", "method") for name in find_choices(group))


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


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_is_explained_with_each_of_its_settings(name):
    about, (_, *rows) = explain_choice("method", name)
    assert about[0] == f"method={name}: {METHODS[name]['title']}" and about[1]
    assert any(METHODS[name]["paper"] in line for line in about)
    assert [row[0] for row in rows] == [
        f"method.{key}" for key in read_choice("method", name) if key not in DESCRIPTION
    ]
    assert all(meaning for _, _, meaning in rows)


@pytest.mark.parametrize("group", sorted({kind.removesuffix("s") for kind in COLUMNS} - {"experiment"}))
def test_each_setting_of_a_choice_has_a_meaning(group):
    blank = [row for name in find_choices(group) for row in explain_choice(group, name)[1][1:] if not row[2]]
    assert blank == []


def test_a_benchmark_shares_meanings_and_keeps_its_own():
    rows = {name: (default, meaning) for name, default, meaning in explain_choice("benchmark", "mmstar")[1][1:]}
    assert rows["benchmark.split"] == ("val", "split of the dataset")  # which stands beside gqa's
    assert rows["benchmark.max_new_tokens"] == (
        "1024",
        "most tokens of an answer; lmms-eval sets none, so its models use 1,024",
    )
    long = {name: default for name, default, _ in explain_choice("benchmark", "mvbench")[1][1:] if len(default) > 150}
    assert all(len(default) == 160 and default.endswith(" ...") for default in long.values())
    assert "benchmark.folders" in long


def test_an_experiment_has_no_settings_but_those_that_it_makes():
    about, rows = explain_choice("experiment", "vtc_cls")
    assert about[0].startswith("experiment=vtc_cls: ")
    assert rows == [["settings"], ["benchmark=scienceqa,gqa,textvqa_ocr,pope,mmbench,mmbench_cn,mmvet,seed"]]


def test_each_setting_of_a_run_has_a_default_and_a_meaning():
    rows = {name: (default, meaning) for name, default, meaning in setting_cells()[1:]}
    assert rows["batch_size"] == ("32", "questions per generate() call; part of the fingerprint in half precision")
    assert rows["share_prefix"][0] == "true" and rows["limit"][0] == "null"
    assert rows["judge.wait"] == ("1", "seconds before the first retry; doubled for each further one, at most 60")
    meaning = "of the hub, or a folder; null: the checkpoint that ships inside vlmprune"
    assert rows["model.path"] == ("null", meaning) and "model.max_tiles" in rows
    assert rows["logger.samples"] == ("64", "answered questions in W&B's table of samples")
    assert [name for name, (_, meaning) in rows.items() if not meaning] == []


def test_choices_and_kinds_are_printed_in_the_order_typed(capsys):
    assert main(["list", "methods", "fastv", "cls", "loggers"]) == 0
    out = capsys.readouterr().out
    places = [out.index(text) for text in ("method=fastv: FastV", "method.k ", "method=cls: Faster", "\nlogger=")]
    assert places == sorted(places) and "cdpruner" not in out


def test_the_printed_config_says_where_its_settings_are_explained(capsys):
    for option in (["--cfg"], ["--cfg", "job"]):
        assert main(["run", "ratio=0.5", *option]) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        assert first == "# The meaning of each: vlmprune list settings models tiny methods cls benchmarks scenes"
        assert "ratio: 0.5" in rest
