"""Rules of the architecture that a reader relies on, checked on the syntax tree of every file of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vlmprune

PACKAGE = Path(vlmprune.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

# Whoever is further down never imports whoever is further up. A part is a package or a module of vlmprune/; one file
# stands lower than its package, since adapters say with it what an encoder costs, which `measure` then counts.
APART = "measure.encoder"
LEVELS = (
    {"methods", "errors", "exits", "environment", "progress", "help", "completion_scripts", "tiny"}
    | {"completion_hints", "streams", "bounds", "own_code", "source_code"},
    {"pruning", APART, "files", "schema", "secrets", "fingerprint", "registry", "records", "sweep_record", "overrides"}
    | {"arguments", "typed_json", "result_schema", "line_schema", "lock", "machine"}
    | {"yaml_files", "infos", "composing"},
    {"models", "benchmarks", "measure", "report", "loggers", "config", "plan", "answers", "batching", "media_cache"}
    | {"prompt", "generation", "evaluate", "completion", "idle", "__init__"},
    {"pipeline", "score", "nominal", "listing"},
    {"distributed"},
    {"run"},
    {"launchers"},
    {"sweep", "speed", "show"},
    {"cli"},
    {"__main__"},
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


def part_of(module: str) -> str:
    """The part that `vlmprune.report.runs`, or a file's name with dots, is of."""
    name = module.removeprefix("vlmprune.")
    if name == APART or name.startswith(f"{APART}."):
        return APART
    head = name.partition(".")[0]
    return head if f"{head}.py" in FILES or f"{head}/__init__.py" in FILES else "__init__"


def imported_parts(importer: str, tree: ast.Module) -> set[str]:
    """Other parts that a file of part `importer` imports when it runs; its types may name any."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    return {part_of(module) for module in imports(tree) if module.startswith("vlmprune.")} - {importer}


def upward(importer: str, tree: ast.Module) -> list[str]:
    """Imports that point up the levels, of a file of part `importer`."""
    return sorted(part for part in imported_parts(importer, tree) if LEVEL_OF[part] > LEVEL_OF[importer])


def foreign_to_methods(tree: ast.Module) -> list[str]:
    """Imports other than torch, the standard library and vlmprune.methods."""
    known = {"torch", *sys.stdlib_module_names}
    return [m for m in imports(tree) if m.split(".")[0] not in known and not m.startswith("vlmprune.methods.")]


def parse(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_no_attention_map_is_asked_for(name):
    assert list(attention_maps(parse(name))) == []


def importer_of(name: str) -> str:
    return part_of(name.removesuffix(".py").replace("/", "."))


def test_every_part_has_its_level():
    assert set(LEVEL_OF) == {importer_of(name) for name in FILES}
    assert sum(map(len, LEVELS)) == len(LEVEL_OF)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    assert upward(importer_of(name), parse(name)) == []


def test_no_imports_go_in_a_circle():
    """Not within a level either."""
    graph: dict[str, set[str]] = {}
    for name in FILES:
        graph.setdefault(importer_of(name), set()).update(imported_parts(importer_of(name), parse(name)))
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the parts


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
    assert parts <= {"methods", "pruning", "errors", "own_code"}


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
    assert upward("errors", ast.parse("from vlmprune import prune")) == ["__init__"]
    assert upward("models", ast.parse("from vlmprune.measure.encoder import Encoded\nimport vlmprune.show")) == ["show"]
    types = "if TYPE_CHECKING:\n    from vlmprune.report.rows import Row\nelse:\n    import vlmprune.cli"
    assert upward("pruning", ast.parse(types)) == ["cli"]
