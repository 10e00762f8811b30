"""Rules of the architecture that a reader relies on, checked on the syntax tree of every file of the package."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vlmprune

PACKAGE = Path(vlmprune.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

# Each package or module of vlmprune/ imports only those in lines further down, also for types and inside functions.
LAYERS = """
__main__
cli
sweep
launchers lmms_eval
__init__
run
distributed pictures speed
evaluation
loggers
results measure
models
benchmarks
config
engine
hashing
typed_json
files own_code source_code machine limits
methods terminal errors source_files tiny version
"""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LEVEL_OF = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}


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
    """The part of vlmprune/ that a dotted name belongs to: `vlmprune.results.runs` to "results"."""
    head = module.removeprefix("vlmprune.").partition(".")[0]
    return head if f"{head}.py" in FILES or f"{head}/__init__.py" in FILES else "__init__"


def against_layers(importer: str, tree: ast.Module) -> list[str]:
    """Parts that a file of part `importer` imports although they do not stand further down."""
    parts = {part_of(module) for module in imports(tree) if module.startswith("vlmprune.")} - {importer}
    return sorted(part for part in parts if LEVEL_OF[part] <= LEVEL_OF[importer])


def module_of(module: str) -> str | None:
    """The file of FILES that a dotted name is imported from, None for names outside vlmprune."""
    parts = module.split(".")[1:] if module.startswith("vlmprune.") else []
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in FILES:
                return file
    return None


def imported_at_start(name: str) -> set[str]:
    """Files that `name` imports when it is imported: not for types, and not inside functions."""
    tree = parse(name)
    start = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    return {file for module in imports(start) if (file := module_of(module)) is not None} - {name}


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


def test_every_part_has_its_layer():
    assert set(LEVEL_OF) == {importer_of(name) for name in FILES}
    assert len(LAYERS.split()) == len(LEVEL_OF)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    assert against_layers(importer_of(name), parse(name)) == []


def test_no_imports_go_in_a_circle():
    """Within a package, whose files have no order."""
    list(TopologicalSorter({name: imported_at_start(name) for name in FILES}).static_order())  # or raises CycleError


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("methods/")])
def test_methods_import_torch_alone(name):
    assert foreign_to_methods(parse(name)) == []


def test_the_engine_imports_methods_and_errors_alone():
    parts = {
        module.split(".")[1]
        for name in FILES
        if name.startswith("engine/")
        for module in imports(parse(name))
        if module.startswith("vlmprune.")
    }
    assert parts <= {"methods", "engine", "errors", "own_code"}


OPENINGS = ("What", "Which", "Whether", "How", "Who")


@pytest.mark.parametrize("name", FILES)
def test_docstrings_open_with_what_the_caller_gets(name):
    nodes = [node for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, DOCUMENTED)]
    texts = [text for node in nodes if (text := ast.get_docstring(node))]
    assert [text.splitlines()[0] for text in texts if text.split()[0] in OPENINGS] == []


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


def test_harmless_code_passes():
    code = "model(**inputs, output_attentions=False)\nkernel == 'eager'\nkernel: Literal['sdpa', 'eager'] = 'sdpa'"
    docstring = "\ndef f():\n    'Works beside eager and output_attentions.'"
    assert list(attention_maps(ast.parse(code + docstring))) == []


def test_imports_that_point_up_or_out_are_found():
    foreign = ["transformers", "transformers.modeling_utils", "numpy", "vlmprune.engine.hooks", "vlmprune"]
    for module in foreign:
        assert len(foreign_to_methods(ast.parse(f"def f():\n    from {module} import models"))) == 1
    assert foreign_to_methods(ast.parse("import transformers as torch")) == ["transformers"]
    assert against_layers("engine", ast.parse("from vlmprune.models.base import Adapter")) == ["models"]
    assert against_layers("methods", ast.parse("import vlmprune.engine.hooks")) == ["engine"]
    assert against_layers("run", ast.parse("def f():\n    from vlmprune import cli")) == ["cli"]
    assert against_layers("run", ast.parse("from vlmprune.models import loading")) == []
    assert against_layers("errors", ast.parse("from vlmprune import prune")) == ["__init__"]
    assert against_layers("pictures", ast.parse("import vlmprune.speed.rows")) == ["speed"]
    types = "if TYPE_CHECKING:\n    from vlmprune.results.comparison import Row\nelse:\n    import vlmprune.cli"
    assert against_layers("engine", ast.parse(types)) == ["cli", "results"]
