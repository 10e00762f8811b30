"""Figures of how the code is divided into files: python scripts/house.py [-v] [FOLDER [FOLDER]]

FOLDER is a package, by default the vlmprune/ of this checkout; two give the columns before and after.

    files, lines                    its *.py files; their newlines, as `wc -l` counts them
    median file, largest file       lines
    files under 60 lines            __init__.py files included
    imports per 100 lines           import statements, wherever they stand: lazy and TYPE_CHECKING imports too
    modules with one importer       files that exactly one other file of the package imports; -v lists them
    file-to-file arrows             pairs (file, another file of the package that it imports)
    parts                           packages and modules directly in FOLDER; its own __init__.py is one
    arrows between parts            pairs (part, another part that it imports)
    circles between parts           groups of parts each of which reaches all others by its imports; -v lists them
    docstrings                      of modules, classes and functions
    docstrings that open with ...   of these, by their first word
    median function                 lines from def to the last one, methods and nested functions included
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vlmprune"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class House:
    """Figures of a package by label; `singles` holds the modules with one importer, `circles` the parts of each."""

    figures: dict[str, str]
    singles: list[str]
    circles: list[list[str]]


def read_house(folder: Path) -> House:
    """Return the figures of the package in `folder`, an absolute path."""
    paths = {module_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
    texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    lines = [text.count("\n") for text in texts.values()]
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    statements = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
    docstrings = [text for node in nodes if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node))]
    functions = [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    arrows = {(name, other) for name, tree in trees.items() for other in imported(tree, paths.keys())}
    arrows = {(name, other) for name, other in arrows if name != other}
    importers = Counter(other for _, other in arrows)
    between = {(part_of(name), part_of(other)) for name, other in arrows}
    between = {(part, other) for part, other in between if part != other}
    parts = {part_of(name) for name in paths}
    singles, found = sorted(name for name, count in importers.items() if count == 1), circles(parts, between)
    figures = {
        "files": f"{len(paths):,}",
        "lines": f"{sum(lines):,}",
        "median file": f"{statistics.median(lines):g}",
        "largest file": f"{max(lines):,}",
        "files under 60 lines": f"{sum(count < 60 for count in lines)}",
        "imports per 100 lines": f"{100 * statements / max(1, sum(lines)):.1f}",
        "modules with one importer": f"{len(singles)}",
        "file-to-file arrows": f"{len(arrows)}",
        "parts": f"{len(parts)}",
        "arrows between parts": f"{len(between)}",
        "circles between parts": f"{len(found)}",
        "docstrings": f"{len(docstrings):,}",
        "docstrings that open with What, Which, Whether, How": str(
            sum(bool(re.match(r"(What|Which|Whether|How)\b", text)) for text in docstrings)
        ),
        "median function": f"{statistics.median(functions):g}" if functions else "-",
    }
    return House(figures, singles, found)


def module_name(path: Path, folder: Path) -> str:
    """Return the dotted name of a file; a package has that of its folder."""
    return ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Yield those of `modules` that a file imports; `from package import name` is package.name where that is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:  # relative imports are not used here
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in names)


def part_of(module: str) -> str:
    """Return the part that a dotted module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def circles(parts: set[str], arrows: set[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of two or more parts that reach each other, sorted."""
    reached = {part: {other for start, other in arrows if start == part} for part in parts}
    for middle in parts:  # Warshall's closure: afterwards all that a part reaches over any number of arrows
        for part in parts:
            if middle in reached[part]:
                reached[part] |= reached[middle]
    groups = {frozenset(other for other in reached[part] if part in reached[other]) for part in parts}
    return sorted(sorted(group) for group in groups if group)


def table(rows: list[list[str]]) -> str:
    """Return rows of text in aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", default=[PACKAGE])
    parser.add_argument("-v", "--verbose", action="store_true", help="list the modules and circles too")
    options = parser.parse_args()
    if len(options.folders) > 2:
        parser.error("name one folder, or two: before and after")
    for folder in options.folders:
        if not any(folder.rglob("*.py")):
            parser.error(f"{folder} holds no *.py file; name the folder of a package")
    houses = [read_house(folder.resolve()) for folder in options.folders]
    head = [["", "before", "after"]] if len(houses) == 2 else []
    print(table(head + [[label, *(house.figures[label] for house in houses)] for label in houses[0].figures]))
    for house in houses if options.verbose else []:
        print("\nmodules with one importer:", *house.singles, sep="\n  ")
        print("circles between parts:", *map(", ".join, house.circles), sep="\n  ")


if __name__ == "__main__":
    main()
