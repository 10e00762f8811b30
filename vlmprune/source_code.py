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
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from vlmprune.errors import UserError
from vlmprune.source_files import FUNCTIONS, WHOLE, SourceModule, find_source, imported_names, names_in, read_source

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = (*FUNCTIONS, ast.Lambda, *COMPREHENSIONS)
# Nothing of these is computed: contexts of names, types, and what Python 3.12 added for types.
IGNORED = frozenset({"ctx", "annotation", "returns", "type_comment", "type_params", "type_ignores", "kind"})
INSTALLED = {"site-packages", "dist-packages"}
# In vlmprune itself, methods and benchmarks are followed: runs differ in them. All else is in every run, and has a
# version, to be raised by a change there that can change an answer. 1: vlmprune 0.2 and older, which recorded none.
FOLLOWED = ("vlmprune.methods", "vlmprune.benchmarks")
ENGINE = 2


def canonical_code(cls: type) -> list[Any]:
    """Return the canonical form of `cls`, its bases and all code of the project that they refer to, as plain data.

    Raises UserError if a class has no source file.
    """
    code = _Code(cls.__module__.partition(".")[0])
    for base in cls.__mro__:
        if code.owns(base.__module__):
            code.index(base.__module__, base.__qualname__.partition(".")[0])
    return code.forms()


class _Scope:
    """The names that one function, lambda or comprehension binds: arguments by name, others by order of appearance."""

    def __init__(self, node: ast.AST, module: str) -> None:
        self.arguments: set[str] = set()
        self.locals: set[str] = set()
        self.imports: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        declared: set[str] = set()
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
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
                self.imports |= dict(imported_names(inner, module))
            elif isinstance(inner, (*FUNCTIONS, ast.ClassDef)):
                self.locals.add(inner.name)
                continue
            elif isinstance(inner, ast.Global):
                declared |= set(inner.names)
            if isinstance(inner, (ast.Lambda, *COMPREHENSIONS)):  # an assignment by := in one of them binds here
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
        """Return True for code of the project: the class's package, vlmprune, and files that are not installed."""
        package = module.partition(".")[0]
        if package in sys.stdlib_module_names or (file := find_source(package)) is None or find_source(module) is None:
            return False
        if package in (self.package, "vlmprune"):
            return True
        return not (INSTALLED.intersection(file.parts) or file.is_relative_to(sysconfig.get_path("stdlib")))

    def index(self, module: str, name: str) -> list[Any]:
        """Return a reference to a definition, by its number."""
        key = (module, name)
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            self.open.append(key)
        return ["code", self.numbers[key]]

    def forms(self) -> list[Any]:
        """Return every definition that is referred to, in the order of their numbers."""
        found = []
        while self.open:
            module, name = self.open.popleft()
            if (source := read_source(module)) is None:
                found.append(_compiled(module))
                continue
            known = name in source.bound
            statements = source.definitions(name) if known else source.statements
            writer = _Writer(self, source)
            found.append([writer.definition(each, named=not known) for each in statements])
        return found

    def resolve(self, dotted: str) -> list[Any]:
        """Return a reference to what an import's dotted name means: a definition of the project or a library's name."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            module, rest = ".".join(parts[:length]), parts[length:]
            if not self.owns(module):
                continue
            source = read_source(module)
            if not rest:
                return self.index(module, WHOLE) if self.follows(module) else ["vlmprune"]
            reference = self.lookup(source, rest[0]) if source else None
            if not self.follows(module):
                return ["vlmprune", *rest]
            return [*(reference or self.index(module, WHOLE)), *rest[1:]]
        return ["library", dotted]

    def follows(self, module: str) -> bool:
        """Return True for code that is read, False for the parts of vlmprune that ENGINE is the version of."""
        return not module.startswith("vlmprune") or f"{module}.".startswith(tuple(f"{name}." for name in FOLLOWED))

    def lookup(self, source: SourceModule, name: str) -> list[Any] | None:
        """Return a reference to what a module's global name means; None if nothing in it binds that name."""
        if name in source.imports:
            return self.resolve(source.imports[name])
        if name in source.bound:
            return self.index(source.name, name)
        for star in source.stars:
            if self.owns(star) and (other := read_source(star)) and (found := self.lookup(other, name)):
                return found
        return None


def _compiled(module: str) -> list[Any]:
    """Return a substitute for code without a source: the hash of its file."""
    file = find_source(module)
    if file is None or not file.is_file():
        raise UserError(f"{module}: its code cannot be read; put the class into a file of a module")
    return ["file", hashlib.sha256(file.read_bytes()).hexdigest()]


class _Writer:
    """Writes definitions of one module as plain data."""

    def __init__(self, code: _Code, module: SourceModule) -> None:
        self.code, self.module = code, module
        self.scopes: list[_Scope | set[str]] = []  # a set: the names of a class's body
        self.counter = iter(range(1_000_000))

    def definition(self, statement: ast.stmt, *, named: bool) -> Any:
        """Return a statement at the top level of the module; a function or class without its name unless `named`."""
        written = self.write(statement)
        if named and isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            return [statement.name, written]
        return written

    def write(self, node: Any) -> Any:
        """Return a node of the syntax tree as plain data; None for a statement that means nothing here."""
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
        """Return a node as its type and those of its fields that hold anything."""
        # Fields that one Python version has and another has not are empty in code that both can parse.
        kept = {
            name: self.write(value)
            for name, value in sorted(ast.iter_fields(node))
            if name not in IGNORED and name not in without and value is not None and value != []
        }
        return [type(node).__name__, kept]

    def scope(self, node: Any) -> Any:
        """Return a function, lambda or comprehension; its decorators and defaults belong to the scope around it."""
        decorators = self.write(getattr(node, "decorator_list", []))
        arguments = getattr(node, "args", None)
        defaults = self.write([*arguments.defaults, *filter(None, arguments.kw_defaults)]) if arguments else []
        name = self.local_name(node)
        self.scopes.append(_Scope(node, self.module.name))
        written = self.fields(node, ("name", "decorator_list"))
        self.scopes.pop()
        return [name, written, decorators, defaults]

    def local_name(self, node: Any) -> Any:
        """Return the name of a function or class inside a function, which is a local variable; None for any other."""
        inside = self.scopes and isinstance(self.scopes[-1], _Scope)
        return self.name(node.name) if inside and hasattr(node, "name") else None

    def write_arguments(self, node: ast.arguments) -> Any:
        """Return arguments, and which of them have defaults."""
        keywords = [value is not None for value in node.kw_defaults]
        return [self.fields(node, ("defaults", "kw_defaults")), len(node.defaults), keywords]

    def write_ClassDef(self, node: ast.ClassDef) -> Any:
        """Return a class: fields and other statements in their order, methods by name, whose order means nothing."""
        head = [self.local_name(node), self.fields(node, ("name", "body"))]
        methods = sorted((each for each in node.body if isinstance(each, FUNCTIONS)), key=lambda each: each.name)
        others = [each for each in node.body if not isinstance(each, FUNCTIONS)]
        targets = [target for each in others if isinstance(each, ast.Assign) for target in each.targets]
        self.scopes.append({name for target in targets for name in names_in(target)} | {each.name for each in methods})
        body = [self.write(others), [[method.name, self.write(method)] for method in methods]]
        self.scopes.pop()
        return [head, body]

    def write_arg(self, node: ast.arg) -> Any:
        return self.name(node.arg)

    def write_Name(self, node: ast.Name) -> Any:
        return self.name(node.id)

    def name(self, name: str) -> Any:
        """Return what a name means: an argument, the number of a local variable, a definition, or a builtin."""
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
        """Return what `module.name` means, like a name; any other attribute by its name."""
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and (origin := self.import_of(base.id)) is not None:
            return self.code.resolve(".".join([origin, *chain]))
        return ["attribute", self.write(node.value), node.attr]

    def import_of(self, name: str) -> str | None:
        """Return the dotted origin of an imported name; None for any other name."""
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
        """Return an f-string's parts, with constants joined: Python versions cut them differently."""
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
        """Return nothing: names are written as what they mean."""

    write_ImportFrom = write_Global = write_Nonlocal = write_Pass = write_Import

    def write_binding(self, node: ast.AST) -> Any:
        """Return a node that binds a local variable by a name that is no node."""
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        return [self.fields(node, ("name", "rest")), self.name(name) if name else None]

    write_ExceptHandler = write_MatchAs = write_MatchStar = write_MatchMapping = write_binding
