"""Rules of the architecture that a reader relies on, checked on the syntax tree of every file of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlmprune

PACKAGE = Path(vlmprune.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

# Whoever is further down never imports whoever is further up.
LEVELS = (
    {"methods"},
    {"pruning"},
    {"models", "benchmarks", "measure", "records", "report", "loggers", "evaluate"},
    {"pipeline"},
    {"distributed"},
    {"run"},
    {"launchers"},
    {"sweep", "speed"},
    {"cli"},
)
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}


def is_off(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (False, None)


def attention_maps(tree: ast.Module) -> Iterator[str]:
    """Where a model would be asked for attention maps, or switched to eager attention, which makes them.

    "eager" may be compared with and may be a type's Literal, since users may load a model so; it may be no value.
    """
    harmless: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            harmless |= {node.left, *node.comparators}
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            harmless |= set(ast.walk(node.slice))
    for node in ast.walk(tree):
        pairs: list[tuple[object, ast.expr | None]] = []
        if isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Assign):
            pairs = [(getattr(target, "attr", None), node.value) for target in node.targets]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
            pairs = [(getattr(node.args[1], "value", None), node.args[2])]
        for name, value in pairs:
            if name == "output_attentions" and value is not None and not is_off(value):
                yield f"line {value.lineno}: output_attentions"
        if isinstance(node, ast.Constant) and node.value == "eager" and node not in harmless:
            yield f"line {node.lineno}: eager"


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in the file, dotted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "relative imports hide what is imported"
            # `from vlmprune import models` imports a package of ours as well.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(importer: str, tree: ast.Module) -> list[str]:
    """Imports that point up the levels, of a file in the package's part `importer`."""
    parts = [module.split(".")[1] for module in imports(tree) if module.startswith("vlmprune.")]
    return [part for part in parts if LEVEL_OF.get(part, -1) > LEVEL_OF.get(importer, len(LEVELS))]


def foreign_to_methods(tree: ast.Module) -> list[str]:
    """Imports other than torch, the standard library and vlmprune.methods."""
    known = {"torch", *sys.stdlib_module_names}
    return [m for m in imports(tree) if m.split(".")[0] not in known and not m.startswith("vlmprune.methods.")]


def parse(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_no_attention_map_is_asked_for(name):
    assert list(attention_maps(parse(name))) == []


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    assert upward(name.removesuffix(".py").split("/")[0], parse(name)) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("methods/")])
def test_methods_import_torch_alone(name):
    assert foreign_to_methods(parse(name)) == []


def test_the_engine_imports_methods_and_errors_alone():
    parts = {
        module.split(".")[1]
        for name in FILES
        if name.startswith("pruning/")
        for module in imports(parse(name))
        if module.startswith("vlmprune.")
    }
    assert parts <= {"methods", "pruning", "errors"}


def test_the_command_line_starts_without_torch():
    code = "import sys, vlmprune.cli, vlmprune.listing; print({'torch', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "code",
    [
        "model(**inputs, output_attentions=True)",
        "model(**inputs, output_attentions=wanted)",
        "model.config.output_attentions = True",
        "setattr(model.config, 'output_attentions', True)",
        "kwargs = {'output_attentions': True}",
        "Model.from_pretrained(path, attn_implementation='eager')",
        "model.set_attn_implementation('eager')",
        "model.config._attn_implementation = 'eager'",
        "kernel = 'eager'\nmodel.set_attn_implementation(kernel)",
    ],
)
def test_attention_maps_are_found(code):
    assert len(list(attention_maps(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "model(**inputs, output_attentions=False)",
        "kernel == 'eager'",
        "kernel: Literal['sdpa', 'eager'] = 'sdpa'",
        "def f():\n    'Works beside eager and output_attentions.'",
    ],
)
def test_harmless_code_passes(code):
    assert list(attention_maps(ast.parse(code))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import transformers",
        "from transformers.modeling_utils import AttentionInterface",
        "def f():\n    import numpy as np",
        "from vlmprune.pruning.probe import Probe",
        "from vlmprune import models",
    ],
)
def test_foreign_imports_of_methods_are_found(code):
    assert len(foreign_to_methods(ast.parse(code))) == 1


def test_imports_that_point_up_are_found():
    assert upward("pruning", ast.parse("from vlmprune.models.base import Adapter")) == ["models"]
    assert upward("methods", ast.parse("import vlmprune.pruning.probe")) == ["pruning"]
    assert upward("run", ast.parse("def f():\n    from vlmprune import cli")) == ["cli"]
    assert upward("run", ast.parse("from vlmprune.models import loading")) == []
