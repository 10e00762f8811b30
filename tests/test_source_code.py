"""Identity of code: another one when an answer can change, the same one after any other edit."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import vlmprune

PACKAGE = Path(vlmprune.__file__).parent
IDENTITIES = """
import hashlib, json, sys
from vlmprune.source_code import canonical_code
found = {}
for line in sys.stdin:
    module, name = line.split()
    code = canonical_code(type(name, (), {"__module__": module}))  # read, not imported: torch is not needed
    found[f"{module} {name}"] = hashlib.sha256(json.dumps(code).encode()).hexdigest()
print(json.dumps(found))
"""
PROJECT = {
    "mine/__init__.py": "",
    "mine/method.py": '''
"""A method of a user's."""

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mine import helpers
from mine.base import Base
from mine.helpers import weigh

if TYPE_CHECKING:
    from mine.types import Signals

log = logging.getLogger(__name__)
LAYERS = {8: 0.5, 16: 0.25}
LAYERS[24] = 0.125


def told(count: int) -> ValueError:
    return ValueError(f"{count} is too few")


@dataclass
class Mine(Base):
    """Keep what is bright."""

    exponent: float
    layer: int = -2

    def score(self, signals: "Signals") -> torch.Tensor:
        """[B, N]."""
        wanted: int
        if signals.count < 3:
            problem = f"{signals.count} tokens"
            raise told(signals.count)
        assert signals.count, "no token"
        log.info("scoring %d", signals.count)
        warnings.warn("slow", stacklevel=2)
        total = 0.0
        for layer, share in LAYERS.items():
            total = total + share * weigh(signals.of(layer), sharp=True)  # a comment
        ranked = sorted((value for value in total), key=lambda value: -value)
        match ranked:
            case [first, *others]:
                total = first
        return helpers.normalise(F.relu(total)) ** self.exponent


class Other:
    """Of no concern to Mine."""

    offset = 7
''',
    "mine/base.py": """
from vlmprune.methods.base import ScoreMethod


class Base(ScoreMethod):
    margin = 1

    def best(self, scores, count):
        return scores.topk(count + self.margin).indices

    def worst(self, scores, count):
        if count > 5:
            raise ValueError("five at most")
        return f"{count:>{self.margin}}" + f"{scores!r}"
""",
    "mine/helpers.py": '''
from mine.constants import FLOOR, UNUSED


def normalise(values):
    """Between 0 and 1."""
    low = values.min()
    return (values - low).clamp(min=FLOOR)


def weigh(values, sharp=False):
    try:
        return values * (2 if sharp else 1)
    except TypeError as error:
        raise ValueError("not a tensor") from error


def unrelated(values):
    return values + UNUSED
''',
    "mine/constants.py": "FLOOR = 1e-6\nUNUSED = 3\n",
}
METHOD, BASE, HELPERS, CONSTANTS = "mine/method.py", "mine/base.py", "mine/helpers.py", "mine/constants.py"
# What is edited: (file, text, its replacement), all of which are made.
SAME = {
    "module docstring": [(METHOD, "A method of a user's.", "One.")],
    "class docstring": [(METHOD, "Keep what is bright.", "Keep bright tokens.")],
    "no function docstring": [(HELPERS, '    """Between 0 and 1."""\n', "")],
    "comment": [(METHOD, "# a comment", "# another")],
    "layout": [(METHOD, "value for value in total), ", "value\n            for value in total),\n            ")],
    "error text of a function": [(METHOD, "is too few", "are too few")],
    "error text in a variable": [(METHOD, "} tokens", "} visual tokens")],
    "error text of a base": [(BASE, "five at most", "at most five")],
    "error text of a helper": [(HELPERS, "not a tensor", "no tensor")],
    "text of an assertion": [(METHOD, "no token", "none")],
    "text of a log": [(METHOD, '"scoring %d"', '"now scoring %d"')],
    "text of a warning": [(METHOD, '"slow"', '"very slow"')],
    "type hint": [(METHOD, "count: int", "count: float"), (HELPERS, "low = ", "low: object = ")],
    "local variable": [(HELPERS, "low", "least")],
    "variable of a lambda and a loop": [(METHOD, "value", "each"), (METHOD, "share", "part")],
    "captured name": [(METHOD, "first", "head"), (METHOD, "others", "tail")],
    "imported name": [(METHOD, "functional as F", "functional as functional"), (METHOD, "F.relu", "functional.relu")],
    "import of a function": [
        (METHOD, "import torch.nn.functional as F", "from torch.nn.functional import relu"),
        (METHOD, "F.relu", "relu"),
    ],
    "local import": [
        (METHOD, "from mine.helpers import weigh\n", ""),
        (METHOD, "total = 0.0", "total = 0.0\n        from mine.helpers import weigh"),
    ],
    "renamed helper": [(METHOD, "weigh", "weight"), (HELPERS, "def weigh", "def weight")],
    "renamed constant": [(METHOD, "LAYERS", "SHARES")],
    "renamed base": [(BASE, "class Base", "class Foundation"), (METHOD, "Base", "Foundation")],
    "order of methods and functions": [
        (BASE, "    def worst", "    def above(self):\n        pass\n\n    def worst"),
        (BASE, "    def above(self):\n        pass\n\n", ""),
    ],
    "code of another class": [(METHOD, "offset = 7", "offset = 8")],
    "code that is not used": [(HELPERS, "values + UNUSED", "values - UNUSED"), (CONSTANTS, "= 3", "= 4")],
}
OTHER = {
    "constant of the method": [(METHOD, "8: 0.5", "8: 0.6")],
    "constant that is changed after its definition": [(METHOD, "0.125", "0.1")],
    "constant of a base": [(BASE, "margin = 1", "margin = 2")],
    "constant of a helper's module": [(CONSTANTS, "1e-6", "1e-5")],
    "type of a constant": [(METHOD, "total = 0.0", "total = 0")],
    "operator": [(METHOD, "total + share", "total - share")],
    "operator of a helper": [(HELPERS, "values * (", "values / (")],
    "comparison": [(METHOD, "count < 3", "count <= 3")],
    "sign": [(METHOD, "key=lambda value: -value", "key=lambda value: value")],
    "default of a setting": [(METHOD, "layer: int = -2", "layer: int = -1")],
    "order of settings": [
        (METHOD, "    exponent: float\n    layer: int = -2", "    layer: int\n    exponent: float = -2")
    ],
    "default of a helper's argument": [(HELPERS, "sharp=False", "sharp=True")],
    "argument of a call": [(METHOD, "sharp=True", "sharp=False")],
    "formula": [(METHOD, "** self.exponent", "* self.exponent")],
    "two variables exchanged": [(METHOD, "share * weigh(signals.of(layer)", "layer * weigh(signals.of(share)")],
    "function of a library": [(METHOD, "F.relu", "F.gelu")],
    "helper of the same name elsewhere": [
        (METHOD, "from mine.helpers import weigh", "from mine.base import weigh"),
        (BASE, "class Base", "def weigh(values, sharp=False):\n    return values\n\n\nclass Base"),
    ],
    "another base": [(METHOD, "class Mine(Base)", "class Mine(Other)")],
    "method that overrides": [
        (METHOD, "    def score", "    def best(self, scores, count):\n        pass\n\n    def score")
    ],
    "condition of an error": [(BASE, "count > 5", "count > 6")],
    "caught error": [(HELPERS, "except TypeError", "except RuntimeError")],
    "format": [(BASE, "{count:>", "{count:<")],
    "conversion": [(BASE, "{scores!r}", "{scores!s}")],
    "decorator": [(METHOD, "@dataclass\n", "@dataclass(frozen=True)\n")],
    "case": [(METHOD, "[first, *others]", "[*others, first]")],
    "unpacked dict": [(METHOD, "LAYERS = {8: 0.5, 16: 0.25}", "LAYERS = {**{8: 0.5}, 16: 0.25}")],
    "code that may be read by name": [(METHOD, "total = 0.0", "total = globals()['Other'].offset")],
}


def write_project(folder: Path, edits: list[tuple[str, str, str]] = ()) -> Path:  # type: ignore[assignment]
    files = dict(PROJECT)
    for file, old, new in edits:
        assert old in files[file]
        files[file] = files[file].replace(old, new)
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def identities(classes: list[str], *paths: Path, python: str = sys.executable) -> dict[str, str]:
    """Identity of each 'module Class', with the folders `paths` first on Python's path."""
    done = subprocess.run(
        [python, "-P", "-c", IDENTITIES],
        input="\n".join(classes),
        env={"PYTHONPATH": ":".join(map(str, [*paths, PACKAGE.parent])), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Identity of the user's method after each edit, and under '' before."""
    folder = tmp_path_factory.mktemp("projects")
    packages = {}
    for number, (name, edits) in enumerate([("", []), *SAME.items(), *OTHER.items()]):
        # A package of its own for each, so that one process reads all of them.
        package = f"mine{number}"
        write_project(folder / "made", edits)
        shutil.move(folder / "made" / "mine", folder / package)
        for file in (folder / package).iterdir():
            file.write_text(file.read_text().replace("from mine", f"from {package}"))
        packages[name] = f"{package}.method Mine"
    found = identities(list(packages.values()), folder)
    return {name: found[key] for name, key in packages.items()}


@pytest.mark.parametrize("edit", SAME)
def test_identity_stays(project, edit):
    assert project[edit] == project[""]


@pytest.mark.parametrize("edit", OTHER)
def test_identity_changes(project, edit):
    assert project[edit] != project[""]


def test_no_two_edits_give_one_identity(project):
    changed = {project[edit] for edit in OTHER}
    assert len(changed) == len(OTHER)


PUT = "def put(function):\n    TABLE[function.__name__] = function\n    return function"


@pytest.mark.parametrize(
    "use",
    [
        "import helper\n\nclass Mine:\n    def score(self):\n        return helper.share()",
        "from helper import *\n\nclass Mine:\n    def score(self):\n        return share()",
        "import helper\n\nclass Mine:\n    def score(self, name):\n        return getattr(helper, name)()",
        "def made():\n    from helper import share\n    return share\n\nclass Mine:\n    score = made()",
        "import helper\n\ndef make(function):\n    return type('Mine', (), {})\n\nMine = make(helper.share)",
        "from helper import TABLE, put\n\nclass Mine:\n    def score(self):\n        return TABLE['share']",
    ],
    ids=["module", "star", "by name", "in a function", "made at run time", "table that a decorator fills"],
)
def test_helpers_are_found_however_they_are_used(tmp_path, use):
    """A module beside the method's, of no package."""
    (tmp_path / "method.py").write_text(use + "\n")
    found = set()
    for value in (1, 2):
        helper = f"TABLE = {{}}\n\n{PUT}\n\n@put\ndef share():\n    return {value}\n"
        (tmp_path / "helper.py").write_text(helper)
        found |= set(identities(["method Mine"], tmp_path).values())
    assert len(found) == 2


def pythons() -> Iterator[str]:
    """Interpreters of the supported versions that are installed here."""
    for version in ("3.11", "3.12"):
        places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
        for place in filter(None, places):
            done = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
            if done.stdout.startswith(f"Python {version}."):
                yield str(place)
                break


def test_the_identity_is_the_recorded_one_on_every_python(tmp_path):
    write_project(tmp_path, [(BASE, "from vlmprune.methods.base import ScoreMethod", "ScoreMethod = object")])
    assert identities(["mine.method Mine"], tmp_path) == {"mine.method Mine": RECORDED}


@pytest.mark.slow
@pytest.mark.parametrize("python", list(pythons()))
def test_installed_pythons_agree(python):
    assert identities(shipped(), python=python) == identities(shipped())


RECORDED = "15091c85477c2e85b7b4729a149f65750920204a7e79ac38759e0d15577a148a"


def shipped() -> list[str]:
    """The class of every method, and of three benchmarks."""
    choices = [*((PACKAGE.parent / "configs" / "method").glob("*.yaml"))]
    choices += [PACKAGE.parent / "configs" / "benchmark" / f"{name}.yaml" for name in ("scenes", "gqa", "mmbench")]
    targets = [yaml.safe_load(choice.read_text())["_target_"] for choice in sorted(choices)]
    return [" ".join(target.rpartition(".")[::2]) for target in targets]


def rewrite(folder: Path, change: Callable[[ast.Module], ast.AST]) -> Path:
    """A copy of vlmprune with each file of its methods and benchmarks changed."""
    shutil.copytree(PACKAGE, folder / "vlmprune", ignore=shutil.ignore_patterns("*.safetensors", "*.pyc", "configs"))
    for part in ("methods", "benchmarks"):
        for path in (folder / "vlmprune" / part).rglob("*.py"):
            path.write_text(ast.unparse(ast.fix_missing_locations(change(ast.parse(path.read_text())))))
    return folder


class Reworded(ast.NodeTransformer):
    """Other docstrings, and other texts in every `raise`."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return ast.Expr(ast.Constant("Another docstring."))
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        for each in ast.walk(node):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                each.value = "another text"
        return node


class Added(ast.NodeTransformer):
    """Every number but those of `raise` and of types one larger."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value + 1) if type(node.value) in (int, float) else node


@pytest.mark.slow
def test_rewording_all_of_vlmprune_changes_no_identity(tmp_path):
    assert identities(shipped(), rewrite(tmp_path, Reworded().visit)) == identities(shipped())


@pytest.mark.slow
def test_other_numbers_change_every_method_and_benchmark(tmp_path):
    before, after = identities(shipped()), identities(shipped(), rewrite(tmp_path, Added().visit))
    assert [name for name in before if before[name] == after[name]] == []


def test_moving_every_module_changes_no_identity(tmp_path):
    folder = rewrite(tmp_path, lambda tree: tree)
    names = [path.stem for path in (folder / "vlmprune" / "methods").glob("*.py") if path.stem != "__init__"]
    for name in names:
        (folder / "vlmprune" / "methods" / f"{name}.py").rename(folder / "vlmprune" / "methods" / f"moved_{name}.py")
    for path in (folder / "vlmprune").rglob("*.py"):
        path.write_text(path.read_text().replace("from vlmprune.methods.", "from vlmprune.methods.moved_"))
    classes = [name for name in shipped() if name.startswith("vlmprune.methods.")]
    moved = [name.replace("vlmprune.methods.", "vlmprune.methods.moved_") for name in classes]
    assert [*identities(moved, folder).values()] == [*identities(classes).values()]
