"""`vlmprune list`: the choices of a config group, read from their YAMLs without importing torch."""

from __future__ import annotations

from typing import Any

from vlmprune.errors import choose
from vlmprune.registry import options, read

# What is shown of each kind beside name and title: keys of the YAML's `info`.
COLUMNS = {
    "models": ("title",),
    "methods": ("title", "stage", "needs", "merges", "paper"),
    "benchmarks": ("title", "task", "size", "metric", "hub", "needs_judge"),
    "loggers": ("title",),
}


def show_choices(arguments: list[str], config_dir: str | None) -> None:
    """Print one table per kind named in `arguments`, or all of them."""
    from rich.table import Table

    from vlmprune.progress import results_console

    kinds = [choose(argument, COLUMNS, "list") for argument in arguments] or list(COLUMNS)
    console = results_console()
    for kind in kinds:
        group = kind.removesuffix("s")
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(f"{group}=", no_wrap=True)
        for column in COLUMNS[kind]:
            table.add_column(column.replace("_", " "))
        for name in sorted(options(group, config_dir)):
            info: dict[str, Any] = read(group, name, config_dir).get("info") or {}
            table.add_row(name, *(_text(info.get(column, "")) for column in COLUMNS[kind]))
        console.print(table)
        console.print()


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
