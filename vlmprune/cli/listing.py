"""`vlmprune list`: the choices of a config group, read from their YAMLs without importing torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from vlmprune.config.arguments import ConfigDir, Words, parse
from vlmprune.config.overrides import CONFIG_MODULE, run_keys
from vlmprune.config.registry import DESCRIPTION, GROUPS, check_name, find_choices, read_choice, read_choices
from vlmprune.config.yaml_files import read_comments
from vlmprune.errors import check_choice
from vlmprune.terminal import print_prose, say

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
SETTING = ["setting", "default", "meaning"]
LONGEST = 160  # characters of a default
# Choices whose YAMLs explain the settings that others of their group have too.
EXPLAINERS = {"model": ("tiny", "path"), "benchmark": ("gqa", "mmbench", "mmstar", "mvbench", "activitynet")}
HELP = """\
vlmprune list [models|methods|benchmarks|experiments|loggers|launchers|matrix|settings] [NAME ...]: print the choices.

  vlmprune list methods
  vlmprune list methods fastv                               one of them: paper, needs, settings, defaults
  vlmprune list settings                                    those of a run, with default and meaning
  vlmprune list models benchmarks --config-dir configs      with your own
  vlmprune list matrix format=markdown                      methods by model family, with what a family lacks

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune list`. kinds: () for all but matrix and settings; after a kind, names of its choices."""

    kinds: Annotated[tuple[str, ...], Words(names=True), Literal[(*COLUMNS, "matrix", "settings")]] = ()
    format: Literal["table", "markdown"] = "table"
    config_dir: ConfigDir = None


def show_choices(arguments: list[str]) -> int:
    """Print one table for each kind or choice named in `arguments`, or for all kinds; return the exit code."""
    settings = parse("list", Settings, arguments)
    print_table = _print_markdown if settings.format == "markdown" else _print_terminal
    for number, (kind, name) in enumerate(_split_words(settings.kinds, settings.config_dir)):
        if number:
            print()
        if name is not None:
            about, rows = explain_choice(kind.removesuffix("s"), name, settings.config_dir)
            for line in about:
                print_prose(line)
            print()
            print_table(
                "choice", rows if rows[1:] else [["no settings beside those of every run: vlmprune list settings"]]
            )
        else:
            print_table(kind, _cells(kind, settings.config_dir))
    return 0


def _split_words(words: tuple[str, ...], config_dir: str | None) -> list[tuple[str, str | None]]:
    """Return (kind, name of one choice or None for all) in the order typed. Raise UserError for other words."""
    found = list[tuple[str, str | None]]()
    for word in words or tuple(COLUMNS):
        kind = found[-1][0] if found else ""
        if word in (*COLUMNS, "matrix", "settings") or kind not in COLUMNS:
            found.append((check_choice(word, (*COLUMNS, "matrix", "settings"), "kind"), None))
        else:
            name = check_name(kind.removesuffix("s"), word, config_dir)
            found = [*(found[:-1] if found[-1][1] is None else found), (kind, name)]
    return found


def _print_terminal(kind: str, cells: list[list[str]]) -> None:
    from vlmprune.results.tables import Column, Table, dropped_columns_line

    header, *rows = cells
    order = {column.replace("_", " "): place for place, column in enumerate(DROPPABLE.get(kind, ()), start=1)}
    columns = [
        Column(title, itemgetter(at), "", "", True, order.get(title, 0), fold=FOLD.get(title, FOLD.get(kind, 20)))
        for at, title in enumerate(header)
    ]
    if gone := Table("", columns, rows).print_terminal():
        print()
        print_prose(dropped_columns_line(gone))


def _print_markdown(kind: str, cells: list[list[str]]) -> None:
    print(_markdown(cells))


def markdown(kind: str, config_dir: str | None = None) -> str:
    """Return the table of one kind in Markdown, as docs/ holds it."""
    return _markdown(_cells(kind, config_dir))


def _markdown(cells: list[list[str]]) -> str:
    header, *rows = cells
    rows = [[f"`{name}`", *rest] for name, *rest in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def explain_choice(group: str, name: str, config_dir: str | None = None) -> tuple[list[str], list[list[str]]]:
    """Return lines about one choice, from its YAML, and the table of its settings: default and meaning of each.

    Of an experiment, the table has the settings that it makes.
    """
    choice = read_choice(group, name, config_dir)
    above, _ = read_comments(find_choices(group, config_dir)[name])
    info: dict[str, Any] = choice.get("info") or {}
    facts = [(key.replace("_", " "), text) for key, value in info.items() if key != "title" and (text := _text(value))]
    width = max((len(key) for key, _ in facts), default=0) + 2
    about = [f"{group}={name}: {info.get('title', '')}".rstrip(": "), above]
    about += ["", *(key.ljust(width) + text for key, text in facts)] if facts else []
    if group == "experiment":
        return about, [["settings"], *([each] for each in choice["overrides"])]
    return about, [SETTING, *_setting_cells(group, choice, _meanings(group, name, config_dir))]


def _meanings(group: str, name: str, config_dir: str | None) -> dict[str, str]:
    """Return the comment beside each setting of a choice, or else that of the first explainer that has the setting."""
    files = find_choices(group, config_dir)
    same = [files[each] for each in EXPLAINERS.get(group, ())]
    found: dict[str, str] = {}
    for file in (files[name], *same):
        found = {key: comment for key, comment in read_comments(file)[1].items() if comment} | found
    return found


def _setting_cells(group: str, choice: dict[str, Any], meanings: dict[str, str]) -> list[list[str]]:
    """Return a row for each setting: name, default, meaning.

    group: '' for a run's own, whose sections have a row for each of theirs.
    """
    rows = []
    for key, value in choice.items():
        if isinstance(value, dict) and not group:
            rows += [[f"{key}.{name}", _value(each), meanings.get(f"{key}.{name}", "")] for name, each in value.items()]
        elif key not in DESCRIPTION:
            rows.append([f"{group}.{key}".lstrip("."), _value(value), meanings.get(key, "")])
    return rows


def setting_cells(config_dir: str | None = None) -> list[list[str]]:
    """Return the table of a run's settings with a header row, from run.yaml and the YAMLs of its groups."""
    keys = run_keys()
    _, meanings = read_comments(Path(str(files(CONFIG_MODULE))) / "run.yaml")
    cells = [SETTING, *([group, str(keys[group]), f"vlmprune list {group}s"] for group in GROUPS)]
    cells += _setting_cells("", {key: value for key, value in keys.items() if key not in GROUPS}, meanings)
    for group, names in (("model", EXPLAINERS["model"]), ("logger", ("wandb",))):  # path has those of every family
        rows = [row for name in names for row in explain_choice(group, name, config_dir)[1][1:]]
        own = {row[0]: row for row in rows} | {row[0]: row for row in reversed(rows)}  # the first of each name
        cells += own.values()
    return [*cells, *([f"{group}.*", "", f"vlmprune list {group}s NAME"] for group in ("method", "benchmark"))]


def _value(value: Any) -> str:
    """Return a setting's value as it is typed; the beginning of a very long one, which `run --cfg` prints in full."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _cells(kind: str, config_dir: str | None) -> list[list[str]]:
    """Return the header and one row per choice, by name."""
    if kind == "matrix":
        return matrix(config_dir)
    if kind == "settings":
        return setting_cells(config_dir)
    group = kind.removesuffix("s")
    choices, broken = read_choices(group, config_dir)
    for error in broken:
        say(f"left out: {error}")
    methods = method_infos(config_dir) if kind == "models" else {}
    cells = [[f"{group}=", *(column.replace("_", " ") for column in COLUMNS[kind])]]
    for name, choice in choices.items():
        info: dict[str, Any] = choice.get("info") or {}
        if kind == "models":
            info["methods"] = methods_text(info, methods)
        cells.append([name, *(_text(info.get(column, "")) for column in COLUMNS[kind])])
    return cells


def missing_signals(model: dict[str, Any], method: dict[str, Any]) -> list[str]:
    """Return the signals that a method needs and a model lacks, from the `info` of both."""
    return [need for need in method["needs"] if need in model["lacks"]]


def method_infos(config_dir: str | None) -> dict[str, dict[str, Any]]:
    """Return the `info` of every method by name; {} for a user's YAML that has none."""
    return {name: choice.get("info") or {} for name, choice in read_choices("method", config_dir)[0].items()}


def methods_text(model: dict[str, Any], methods: dict[str, dict[str, Any]]) -> str:
    """Return a text of the methods that work on a model: all but those that need a signal that it lacks.

    methods: the `info` of every method by name.
    """
    if "lacks" not in model:
        return "those of its family"
    stated = {name: info for name, info in methods.items() if "needs" in info}
    without = [f"{name} ({', '.join(lack)})" for name in stated if (lack := missing_signals(model, stated[name]))]
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
