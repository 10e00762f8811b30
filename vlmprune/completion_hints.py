"""Words that the type hint of a class's field allows, read from its source, so that completion imports no class."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.resources import files

PACKAGE = "vlmprune"


def words_of(target: str, name: str) -> list[str]:
    """Return the words of the Literal, or true and false, of field `name` of `target` (package.module.Class).

    [] for any other type, and for classes outside vlmprune. Base classes are searched too.
    """
    path, _, class_name = target.rpartition(".")
    package, *parts = path.split(".")
    source = files(PACKAGE).joinpath(*parts[:-1], f"{parts[-1]}.py") if parts else None
    if package != PACKAGE or source is None or not source.is_file():
        return []
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) == name:
                    return list(_words(field.annotation))
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            found = (words_of(imported.get(base, f"{path}.{base}"), name) for base in bases)
            return next(filter(None, found), [])
    return []


def _words(hint: ast.expr) -> Iterator[str]:
    """Yield the words that a hint allows: a and b for Literal["a", "b"] | None."""
    match hint:
        case ast.Name(id="bool"):
            yield from ("true", "false")
        case ast.BinOp(left=left, right=right):
            yield from _words(left)
            yield from _words(right)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=elements)):
            yield from (str(ast.literal_eval(element)) for element in elements)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=element):
            yield str(ast.literal_eval(element))
