"""`vlmprune list`: the choices of a config group, read from their YAMLs without importing torch."""

from __future__ import annotations

from typing import Any

from vlmprune.errors import choose
from vlmprune.registry import options, read

# What is shown of each kind beside name and title: keys of the YAML's `info`.
COLUMNS = {
    "models": ("title",),
    "methods": ("title", "stage", "needs", "merges", "positions", "paper"),
    "benchmarks": ("title", "task", "size", "metric", "hub", "needs_judge"),
    "experiments": ("title", "paper"),
    "loggers": ("title",),
}
FORMATS = ("table", "markdown")


def show_choices(arguments: list[str], config_dir: str | None) -> None:
    """Print one table per kind named in `arguments`, or all of them; with format=markdown, as Markdown."""
    from rich.table import Table

    from vlmprune.progress import results_console

    names = [argument for argument in arguments if not argument.startswith("format=")]
    formats = [argument.removeprefix("format=") for argument in arguments if argument not in names]
    kinds = [choose(name, COLUMNS, "list") for name in names] or list(COLUMNS)
    if "markdown" in [choose(name, FORMATS, "format") for name in formats]:
        print("\n\n".join(markdown(kind, config_dir) for kind in kinds))
        return
    console = results_console()
    for kind in kinds:
        table = Table(box=None, header_style="bold", pad_edge=False)
        header, *rows = _cells(kind, config_dir)
        table.add_column(header[0], no_wrap=True)
        for column in header[1:]:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()


def markdown(kind: str, config_dir: str | None = None) -> str:
    """The table of one kind in Markdown: vlmprune/methods/README.md holds that of the methods."""
    header, *rows = _cells(kind, config_dir)
    rows = [[f"`{name}`", *rest] for name, *rest in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def _cells(kind: str, config_dir: str | None) -> list[list[str]]:
    """Header and one row per choice, by name."""
    group = kind.removesuffix("s")
    cells = [[f"{group}=", *(column.replace("_", " ") for column in COLUMNS[kind])]]
    for name in sorted(options(group, config_dir)):
        info: dict[str, Any] = read(group, name, config_dir).get("info") or {}
        cells.append([name, *(_text(info.get(column, "")) for column in COLUMNS[kind])])
    return cells


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
