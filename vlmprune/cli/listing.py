"""`vlmprune list`: the choices of a config group, read from their YAMLs without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any, Literal

from vlmprune.config.arguments import ConfigDir, Words, parse
from vlmprune.config.registry import read_choices
from vlmprune.terminal import say

# Columns of each kind after the name: keys of the YAML's `info`, and the methods of a model.
COLUMNS = {
    "models": ("title", "family", "parameters", "visual_tokens", "has_cls", "methods"),
    "methods": ("title", "stage", "needs", "merges", "positions", "paper"),
    "benchmarks": ("title", "task", "size", "metric", "hub", "needs_judge"),
    "experiments": ("title", "paper"),
    "loggers": ("title",),
    "launchers": ("title", "extra"),
}
# Columns that a narrow terminal loses, in this order.
DROPPABLE = {
    "models": ("methods", "visual_tokens", "family", "has_cls", "parameters"),
    "methods": ("merges", "positions", "needs", "paper"),
    "benchmarks": ("hub", "metric", "task", "needs_judge", "size"),
}
FOLD = {"hub": 40, "matrix": 0}  # characters to which a column is folded before columns go: names on the hub are whole
HELP = """\
vlmprune list [models|methods|benchmarks|experiments|loggers|launchers|matrix]: print the choices.

  vlmprune list methods
  vlmprune list models benchmarks --config-dir configs      with your own
  vlmprune list matrix format=markdown                      methods by model family, with what a family lacks

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune list`. kinds: () for all but the matrix."""

    kinds: Annotated[tuple[str, ...], Words(), Literal[(*COLUMNS, "matrix")]] = ()
    format: Literal["table", "markdown"] = "table"
    config_dir: ConfigDir = None


def show_choices(arguments: list[str]) -> int:
    """Print one table for each kind named in `arguments`, or for all; as Markdown with format=markdown."""
    from vlmprune.results.tables import Column, Table, dropped_columns_line
    from vlmprune.terminal import print_prose

    settings = parse("list", Settings, arguments)
    kinds, config_dir = settings.kinds or tuple(COLUMNS), settings.config_dir
    if settings.format == "markdown":
        print("\n\n".join(markdown(kind, config_dir) for kind in kinds))
        return 0
    for kind in kinds:
        header, *rows = _cells(kind, config_dir)
        order = {column.replace("_", " "): place for place, column in enumerate(DROPPABLE.get(kind, ()), start=1)}
        columns = [
            Column(title, itemgetter(at), "", "", True, order.get(title, 0), fold=FOLD.get(title, FOLD.get(kind, 20)))
            for at, title in enumerate(header)
        ]
        if gone := Table("", columns, rows).print_terminal():
            print()
            print_prose(dropped_columns_line(gone))
        print()
    return 0


def markdown(kind: str, config_dir: str | None = None) -> str:
    """Return the table of one kind in Markdown, as docs/ holds it."""
    header, *rows = _cells(kind, config_dir)
    rows = [[f"`{name}`", *rest] for name, *rest in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def _cells(kind: str, config_dir: str | None) -> list[list[str]]:
    """Return the header and one row per choice, by name."""
    if kind == "matrix":
        return matrix(config_dir)
    group = kind.removesuffix("s")
    choices, broken = read_choices(group, config_dir)
    for error in broken:
        say(f"left out: {error}")
    cells = [[f"{group}=", *(column.replace("_", " ") for column in COLUMNS[kind])]]
    for name, choice in choices.items():
        info: dict[str, Any] = choice.get("info") or {}
        if kind == "models":
            info["methods"] = methods_text(info, config_dir)
        cells.append([name, *(_text(info.get(column, "")) for column in COLUMNS[kind])])
    return cells


def missing_signals(model: dict[str, Any], method: dict[str, Any]) -> list[str]:
    """Return the signals that a method needs and a model lacks, from the `info` of both."""
    return [need for need in method["needs"] if need in model["lacks"]]


def method_infos(config_dir: str | None) -> dict[str, dict[str, Any]]:
    """Return the `info` of every method by name; {} for a user's YAML that has none."""
    return {name: choice.get("info") or {} for name, choice in read_choices("method", config_dir)[0].items()}


def methods_text(model: dict[str, Any], config_dir: str | None = None) -> str:
    """Return a text of the methods that work on a model: all but those that need a signal that it lacks."""
    if "lacks" not in model:
        return "those of its family"
    methods = {name: info for name, info in method_infos(config_dir).items() if "needs" in info}
    without = [f"{name} ({', '.join(lack)})" for name in methods if (lack := missing_signals(model, methods[name]))]
    return f"all but {', '.join(without)}" if without else "all"


def matrix(config_dir: str | None = None) -> list[list[str]]:
    """Return the table of methods x model families, with a header row."""
    infos = [choice.get("info") or {} for choice in read_choices("model", config_dir)[0].values()]
    families = {info["family"]: info for info in infos if {"family", "lacks", "has_cls"} <= info.keys()}
    cells = [["method=", *sorted(families)]]
    for name, method in method_infos(config_dir).items():
        cells.append([name, *(matrix_cell(families[family], method) for family in sorted(families))])
    return cells


def matrix_cell(model: dict[str, Any], method: dict[str, Any]) -> str:
    """Return the matrix cell of a method and a family: yes, or the signals that the family lacks."""
    if "needs" not in method:
        return "not stated"
    if lack := missing_signals(model, method):
        return f"no {', '.join(lack)}"
    if "text_relevance" in method["needs"]:  # no checkpoint carries the text half of its CLIP
        return "yes (with method.clip)"
    # Without [CLS], its attention is replaced by the mean attention that a token receives.
    return "yes" if model["has_cls"] or "cls_attention" not in method["needs"] else "yes (attention received)"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
