"""Canonical form of a class's code, which changes when what the class computes can change.

Sources are read, never run. The form holds a class, its bases and every function, class and constant of the same
project that they refer to, each by its contents: renaming or moving any of them changes nothing, nor do comments,
docstrings, type hints, names of local variables, or the texts of errors, warnings and logs. Constants, operators,
default values and statements do count. It is the same on every Python version that can parse the source.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from vlmprune.errors import UserError

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)
Comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = (*Functions, ast.Lambda, *Comprehensions)
# No part of what is computed: positions of names, types, and what Python 3.12 added for types.
IGNORED = frozenset({"ctx", "annotation", "returns", "type_comment", "type_params", "type_ignores", "kind"})
LOGGED = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
INSTALLED = {"site-packages", "dist-packages"}
WHOLE = "*"  # in place of a name: every statement of a module
# In vlmprune itself, methods and benchmarks are followed: runs differ in them. All else is in every run, and has a
# version, to be raised by a change there that can change an answer. 1: vlmprune 0.2 and older, which recorded none.
FOLLOWED = ("vlmprune.methods", "vlmprune.benchmarks")
ENGINE = 2


def canonical_code(cls: type) -> list[Any]:
    """The canonical form of `cls`, its bases and all code of the project that they refer to, as plain data.

    Raises UserError where a class has no source file.
    """
    code = _Code(cls.__module__.partition(".")[0])
    for base in cls.__mro__:
        if code.owns(base.__module__):
            code.index(base.__module__, base.__qualname__.partition(".")[0])
    return code.forms()


@dataclass(frozen=True)
class _Module:
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
            for name, target in _imported(node, self.name):
                self.imports[name] = target
                if name == WHOLE:
                    self.stars.append(target)
        for name in dict.fromkeys(_changed(statement)):
            self.bound.setdefault(name, []).append(statement)

    def definitions(self, name: str) -> list[ast.stmt]:
        """The statements that make what a global name holds: of a table, also the calls that may enter something."""
        statements = self.bound[name]
        if all(isinstance(each, (*Functions, ast.ClassDef)) for each in statements):
            return statements
        own = self.bound.keys() - self.imports.keys()
        decorated = [each for each in self.statements if isinstance(each, (*Functions, ast.ClassDef))]
        calls: list[ast.stmt] = [
            each for each in decorated for decorator in each.decorator_list if own.intersection(_names(decorator))
        ]
        calls += [each for each in self.statements if isinstance(each, ast.Expr) and own.intersection(_names(each))]
        return [each for each in self.statements if each in statements or each in calls]


def _inner_statements(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Statements inside `if`, `try`, `with` and loops, but not inside functions or classes."""
    if isinstance(statement, (*Functions, ast.ClassDef)):
        return
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield node
            yield from _inner_statements(node)
        elif isinstance(node, ast.ExceptHandler):
            for inner in node.body:
                yield inner
                yield from _inner_statements(inner)


def _imported(node: ast.stmt, module: str) -> Iterator[tuple[str, str]]:
    """(local name, dotted origin) of each name that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            found = _find(module)
            package = module if found and found.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            yield alias.asname or alias.name, origin if alias.name == WHOLE else f"{origin}.{alias.name}"


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top level of a module binds, or whose object it may change."""
    if isinstance(statement, (*Functions, ast.ClassDef)):
        yield statement.name
        for decorator in statement.decorator_list:  # may enter the function into a table
            yield from _names(decorator)
    elif isinstance(statement, ast.Expr):
        yield from _names(statement.value)
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from _names(target)
    elif not isinstance(statement, (ast.Import, ast.ImportFrom)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
        for inner in _inner_statements(statement):
            yield from _changed(inner)


def _names(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))


@lru_cache(maxsize=4096)
def _find(module: str) -> Path | None:
    """The file of a module, without importing it; None for one that has no file."""
    if (loaded := sys.modules.get(module)) is not None:
        return None if getattr(loaded, "__file__", None) is None else Path(str(loaded.__file__))
    package, _, name = module.rpartition(".")
    if package:
        above = _find(package)
        places = [] if above is None or above.name != "__init__.py" else [above.parent]
        found = [each for place in places for each in (place / f"{name}.py", place / name / "__init__.py")]
        return next((file for file in found if file.is_file()), None)
    spec = importlib.util.find_spec(module)
    return None if spec is None or not spec.has_location or spec.origin is None else Path(spec.origin)


def _read(module: str) -> _Module | None:
    """A module's statements; None for one that does not exist or is not written in Python."""
    file = _find(module)
    if file is None or file.suffix != ".py":
        return None
    return _parse(module, file, file.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _parse(module: str, file: Path, _changed_at: int) -> _Module:
    return _Module(module, _Stripped().visit(ast.parse(file.read_bytes())).body)


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
    """The name that an assignment binds, if it binds one name and nothing else."""
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
    """True for a call whose only effect is a line for a person."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id == "print"
    owner = getattr(getattr(node.func, "value", None), "id", "").lower().strip("_")
    name = getattr(node.func, "attr", "")
    return (owner, name) == ("warnings", "warn") or (owner in ("log", "logger", "logging") and name in LOGGED)


class _Scope:
    """The names that one function, lambda or comprehension binds: arguments by name, others by order of appearance."""

    def __init__(self, node: ast.AST, module: str) -> None:
        self.arguments: set[str] = set()
        self.locals: set[str] = set()
        self.imports: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        declared: set[str] = set()
        if isinstance(node, (*Functions, ast.Lambda)):
            every = node.args
            named = [*every.posonlyargs, *every.args, *every.kwonlyargs, *filter(None, [every.vararg, every.kwarg])]
            names = {argument.arg for argument in named}
            if isinstance(node, ast.Lambda):  # called by position
                self.locals |= names
            else:
                self.arguments = names
        parts: list[Any] = [
            value for name, value in ast.iter_fields(node) if name not in (*IGNORED, "decorator_list", "args")
        ]
        stack = [each for part in parts for each in (part if isinstance(part, list) else [part])]
        while stack:
            inner = stack.pop()
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.locals.add(inner.id)
            elif isinstance(inner, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and inner.name:
                self.locals.add(inner.name)
            elif isinstance(inner, ast.MatchMapping) and inner.rest:
                self.locals.add(inner.rest)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                self.imports |= dict(_imported(inner, module))
            elif isinstance(inner, (*Functions, ast.ClassDef)):
                self.locals.add(inner.name)
                continue
            elif isinstance(inner, ast.Global):
                declared |= set(inner.names)
            if isinstance(inner, (ast.Lambda, *Comprehensions)):  # an assignment by := in one of them binds here
                stack += [each for each in ast.walk(inner) if isinstance(each, ast.NamedExpr)]
            elif isinstance(inner, ast.AST):
                stack += ast.iter_child_nodes(inner)
        self.locals -= self.arguments | declared | self.imports.keys()

    def number(self, name: str, numbers: Iterator[int]) -> int:
        if name not in self.numbers:
            self.numbers[name] = next(numbers)
        return self.numbers[name]


class _Code:
    """All code that a class refers to, each definition once, under the number in which it is first referred to."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.numbers: dict[tuple[str, str], int] = {}
        self.open: deque[tuple[str, str]] = deque()

    def owns(self, module: str) -> bool:
        """True for code of the project: the class's package, vlmprune, and files that are not installed."""
        package = module.partition(".")[0]
        if package in sys.stdlib_module_names or (file := _find(package)) is None or _find(module) is None:
            return False
        if package in (self.package, "vlmprune"):
            return True
        return not (INSTALLED.intersection(file.parts) or file.is_relative_to(sysconfig.get_path("stdlib")))

    def index(self, module: str, name: str) -> list[Any]:
        """A reference to a definition by its number."""
        key = (module, name)
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            self.open.append(key)
        return ["code", self.numbers[key]]

    def forms(self) -> list[Any]:
        """Every definition that is referred to, in the order of their numbers."""
        found = []
        while self.open:
            module, name = self.open.popleft()
            if (source := _read(module)) is None:
                found.append(_compiled(module))
                continue
            known = name in source.bound
            statements = source.definitions(name) if known else source.statements
            writer = _Writer(self, source)
            found.append([writer.definition(each, named=not known) for each in statements])
        return found

    def resolve(self, dotted: str) -> list[Any]:
        """A reference to what the dotted name of an import means: a definition of the project, or a library's name."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module, rest = ".".join(parts[:length]), parts[length:]
            if not self.owns(module):
                continue
            source = _read(module)
            if not rest:
                return self.index(module, WHOLE) if self.follows(module) else ["vlmprune"]
            reference = self.lookup(source, rest[0]) if source else None
            if not self.follows(module):
                return ["vlmprune", *rest]
            return [*(reference or self.index(module, WHOLE)), *rest[1:]]
        return ["library", dotted]

    def follows(self, module: str) -> bool:
        """True for code that is read, False for the parts of vlmprune that ENGINE is the version of."""
        return not module.startswith("vlmprune") or f"{module}.".startswith(tuple(f"{name}." for name in FOLLOWED))

    def lookup(self, source: _Module, name: str) -> list[Any] | None:
        """A reference to what a module's global name means; None where nothing in it binds that name."""
        if name in source.imports:
            return self.resolve(source.imports[name])
        if name in source.bound:
            return self.index(source.name, name)
        for star in source.stars:
            if self.owns(star) and (other := _read(star)) and (found := self.lookup(other, name)):
                return found
        return None


def _compiled(module: str) -> list[Any]:
    """A stand-in for code without a source: the hash of its file."""
    file = _find(module)
    if file is None or not file.is_file():
        raise UserError(f"{module}: its code cannot be read; put the class into a file of a module")
    return ["file", hashlib.sha256(file.read_bytes()).hexdigest()]


class _Writer:
    """Writes definitions of one module as plain data."""

    def __init__(self, code: _Code, module: _Module) -> None:
        self.code, self.module = code, module
        self.scopes: list[_Scope | set[str]] = []  # a set: the names of a class's body
        self.counter = iter(range(1_000_000))

    def definition(self, statement: ast.stmt, *, named: bool) -> Any:
        """One statement at the top level of the module; a function or class without its name unless `named`."""
        written = self.write(statement)
        if named and isinstance(statement, (*Functions, ast.ClassDef)):
            return [statement.name, written]
        return written

    def write(self, node: Any) -> Any:
        """A node of the syntax tree as plain data."""
        if isinstance(node, list):
            # Statements that mean nothing here are written as None; a `**` among the keys of a dict is None itself.
            return [written for each in node if (written := self.write(each)) is not None or each is None]
        if not isinstance(node, ast.AST):
            return node
        special = getattr(self, f"write_{type(node).__name__}", None)
        if special is not None:
            return special(node)
        if isinstance(node, SCOPES):
            return self.scope(node)
        return self.fields(node)

    def fields(self, node: ast.AST, without: Iterable[str] = ()) -> Any:
        """A node as its type and those of its fields that hold anything."""
        # Fields that one Python version has and another has not are empty in code that both can parse.
        kept = {
            name: self.write(value)
            for name, value in sorted(ast.iter_fields(node))
            if name not in IGNORED and name not in without and value is not None and value != []
        }
        return [type(node).__name__, kept]

    def scope(self, node: Any) -> Any:
        """A function, lambda or comprehension; its decorators and defaults belong to the scope around it."""
        decorators = self.write(getattr(node, "decorator_list", []))
        arguments = getattr(node, "args", None)
        defaults = self.write([*arguments.defaults, *filter(None, arguments.kw_defaults)]) if arguments else []
        name = self.local_name(node)
        self.scopes.append(_Scope(node, self.module.name))
        written = self.fields(node, ("name", "decorator_list"))
        self.scopes.pop()
        return [name, written, decorators, defaults]

    def local_name(self, node: Any) -> Any:
        """The name of a function or class inside a function, which is a local variable; None for any other."""
        inside = self.scopes and isinstance(self.scopes[-1], _Scope)
        return self.name(node.name) if inside and hasattr(node, "name") else None

    def write_arguments(self, node: ast.arguments) -> Any:
        """Arguments, and which of them have defaults."""
        keywords = [value is not None for value in node.kw_defaults]
        return [self.fields(node, ("defaults", "kw_defaults")), len(node.defaults), keywords]

    def write_ClassDef(self, node: ast.ClassDef) -> Any:
        """A class: fields and other statements in their order, methods by name, since their order means nothing."""
        head = [self.local_name(node), self.fields(node, ("name", "body"))]
        methods = sorted((each for each in node.body if isinstance(each, Functions)), key=lambda each: each.name)
        others = [each for each in node.body if not isinstance(each, Functions)]
        targets = [target for each in others if isinstance(each, ast.Assign) for target in each.targets]
        self.scopes.append({name for target in targets for name in _names(target)} | {each.name for each in methods})
        body = [self.write(others), [[method.name, self.write(method)] for method in methods]]
        self.scopes.pop()
        return [head, body]

    def write_arg(self, node: ast.arg) -> Any:
        return self.name(node.arg)

    def write_Name(self, node: ast.Name) -> Any:
        return self.name(node.id)

    def name(self, name: str) -> Any:
        """A name by what it means: an argument, the number of a local variable, a definition, or a name of Python's."""
        for depth, scope in enumerate(reversed(self.scopes)):
            if isinstance(scope, set):
                if depth == 0 and name in scope:
                    return ["field", name]
            elif name in scope.arguments:
                return ["argument", name]
            elif name in scope.locals:
                return ["local", scope.number(name, self.counter)]
            elif name in scope.imports:
                return self.code.resolve(scope.imports[name])
        if (reference := self.code.lookup(self.module, name)) is not None:
            return reference
        if name in ("globals", "eval", "exec", "vars"):  # may read anything of this module
            return [name, self.code.index(self.module.name, WHOLE)]
        return ["python", name] if hasattr(builtins, name) else ["unknown", name]

    def write_Attribute(self, node: ast.Attribute) -> Any:
        """`module.name` by what it means, like a name; any other attribute by its name."""
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and (origin := self.import_of(base.id)) is not None:
            return self.code.resolve(".".join([origin, *chain]))
        return ["attribute", self.write(node.value), node.attr]

    def import_of(self, name: str) -> str | None:
        """The dotted origin of an imported name; None for any other name."""
        for scope in reversed(self.scopes):
            if isinstance(scope, _Scope):
                if name in scope.arguments or name in scope.locals:
                    return None
                if name in scope.imports:
                    return scope.imports[name]
        return self.module.imports.get(name)

    def write_Constant(self, node: ast.Constant) -> Any:
        return [type(node.value).__name__, ascii(node.value)]

    def write_JoinedStr(self, node: ast.JoinedStr) -> Any:
        """An f-string; Python versions cut its constant parts differently."""
        parts: list[Any] = []
        for value in node.values:
            if not isinstance(value, ast.Constant):
                parts.append(self.write(value))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += str(value.value)
            elif value.value:
                parts.append(str(value.value))
        return ["f", parts]

    def write_FormattedValue(self, node: ast.FormattedValue) -> Any:
        specification = self.write(node.format_spec) if node.format_spec else ["f", []]
        return [self.write(node.value), node.conversion, specification]

    def write_Import(self, node: ast.stmt) -> None:
        """Nothing: names are written as what they mean."""

    write_ImportFrom = write_Global = write_Nonlocal = write_Pass = write_Import

    def write_binding(self, node: ast.AST) -> Any:
        """A node that binds a local variable by a name that is no node."""
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        return [self.fields(node, ("name", "rest")), self.name(name) if name else None]

    write_ExceptHandler = write_MatchAs = write_MatchStar = write_MatchMapping = write_binding
