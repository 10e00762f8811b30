"""Source files of Python modules, read without importing them, without what no answer depends on.

Left out are docstrings, type hints, and the texts of errors, warnings and logs.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WHOLE = "*"  # in place of a name: every name of a module
LOGGED = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


@dataclass(frozen=True)
class SourceModule:
    """The top level of one source file: statements by the name that they bind or change, and imports by local name."""

    name: str
    statements: list[ast.stmt]
    bound: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for statement in self.statements:
            self._add(statement)

    def _add(self, statement: ast.stmt) -> None:
        for node in [statement, *_inner_statements(statement)]:
            for name, target in imported_names(node, self.name):
                self.imports[name] = target
                if name == WHOLE:
                    self.stars.append(target)
        for name in dict.fromkeys(_changed(statement)):
            self.bound.setdefault(name, []).append(statement)

    def definitions(self, name: str) -> list[ast.stmt]:
        """Return the statements that make what a global name holds: of a table, also calls that may enter something."""
        statements = self.bound[name]
        if all(isinstance(each, (*FUNCTIONS, ast.ClassDef)) for each in statements):
            return statements
        own = self.bound.keys() - self.imports.keys()
        decorated = [each for each in self.statements if isinstance(each, (*FUNCTIONS, ast.ClassDef))]
        calls: list[ast.stmt] = [
            each for each in decorated for decorator in each.decorator_list if own.intersection(names_in(decorator))
        ]
        calls += [each for each in self.statements if isinstance(each, ast.Expr) and own.intersection(names_in(each))]
        return [each for each in self.statements if each in statements or each in calls]


def _inner_statements(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield statements inside `if`, `try`, `with` and loops, but not inside functions or classes."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield node
            yield from _inner_statements(node)
        elif isinstance(node, ast.ExceptHandler):
            for inner in node.body:
                yield inner
                yield from _inner_statements(inner)


def imported_names(node: ast.stmt, module: str) -> Iterator[tuple[str, str]]:
    """Yield (local name, dotted origin) of each name that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            found = find_source(module)
            package = module if found and found.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            yield alias.asname or alias.name, origin if alias.name == WHOLE else f"{origin}.{alias.name}"


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yield names that a statement at the top level of a module binds, or whose object it may change."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        yield statement.name
        for decorator in statement.decorator_list:  # may enter the function into a table
            yield from names_in(decorator)
    elif isinstance(statement, ast.Expr):
        yield from names_in(statement.value)
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from names_in(target)
    elif not isinstance(statement, (ast.Import, ast.ImportFrom)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
        for inner in _inner_statements(statement):
            yield from _changed(inner)


def names_in(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))


@lru_cache(maxsize=4096)
def find_source(module: str) -> Path | None:
    """Return the file of a module, without importing it; None if it has no file."""
    if (loaded := sys.modules.get(module)) is not None:
        return None if getattr(loaded, "__file__", None) is None else Path(str(loaded.__file__))
    package, _, name = module.rpartition(".")
    if package:
        above = find_source(package)
        places = [] if above is None or above.name != "__init__.py" else [above.parent]
        found = [each for place in places for each in (place / f"{name}.py", place / name / "__init__.py")]
        return next((file for file in found if file.is_file()), None)
    spec = importlib.util.find_spec(module)
    return None if spec is None or not spec.has_location or spec.origin is None else Path(spec.origin)


def read_source(module: str) -> SourceModule | None:
    """Return a module's statements; None if it does not exist or is not written in Python."""
    file = find_source(module)
    if file is None or file.suffix != ".py":
        return None
    return _parse(module, file, file.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _parse(module: str, file: Path, _changed_at: int) -> SourceModule:
    return SourceModule(module, _Stripped().visit(ast.parse(file.read_bytes())).body)


class _Stripped(ast.NodeTransformer):
    """Removes from a syntax tree what no answer depends on: docstrings, type hints, and texts of errors and logs."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) or _is_log(node.value):
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        # Which handler catches it depends on the class alone; a function that makes the exception words it.
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        name = raised.attr if isinstance(raised, ast.Attribute) else getattr(raised, "id", "")
        return ast.Raise(ast.Constant(name) if name[:1].isupper() else None, None)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.Assert(self.visit(node.test), None)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if node.value is None else self.visit(ast.Assign([node.target], node.value))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for index, field_ in enumerate(node.body):
            if isinstance(field_, ast.AnnAssign) and field_.value is None:  # keeps its name and its position
                node.body[index] = ast.Assign([field_.target], ast.Constant(...))
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        test = node.test
        if getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING":
            return [kept for each in node.orelse if (kept := self.visit(each)) is not None]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: Any) -> ast.AST | None:
        if any(getattr(each, "id", getattr(each, "attr", "")) == "overload" for each in node.decorator_list):
            return None
        self.generic_visit(node)
        outer = {name for each in ast.walk(node) if isinstance(each, ast.Global | ast.Nonlocal) for name in each.names}
        while (texts := _UnreadTexts(node, outer)).names:
            texts.visit(node)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef


class _UnreadTexts(ast.NodeTransformer):
    """Removes texts that are assigned to local variables and never read: those of errors, once these are stripped."""

    def __init__(self, function: ast.AST, outer: set[str]) -> None:
        nodes = list(ast.walk(function))
        read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | outer
        assigned = [node for node in nodes if isinstance(node, ast.Assign)]
        self.unread = [node for node in assigned if _is_text(node.value) and _plain_names(node) - read]
        self.names = {name for node in self.unread for name in _plain_names(node)}

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if any(node is each for each in self.unread) else node


def _plain_names(node: ast.Assign) -> set[str]:
    """Return the name that an assignment binds, if it binds one name and nothing else."""
    target = node.targets[0]
    return {target.id} if len(node.targets) == 1 and isinstance(target, ast.Name) else set()


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and _is_text(node.func.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_log(node: ast.expr) -> bool:
    """Return True for a call whose only effect is a line for a person."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id == "print"
    owner = getattr(getattr(node.func, "value", None), "id", "").lower().strip("_")
    name = getattr(node.func, "attr", "")
    return (owner, name) == ("warnings", "warn") or (owner in ("log", "logger", "logging") and name in LOGGED)
