"""Completion by a shell's TAB key: commands, options, settings and their values, and the scripts that ask.

They come from configs/ and the help texts, without heavy imports and without importing a user's classes.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from vlmprune.cli import help as texts
from vlmprune.config.overrides import LONGEST
from vlmprune.errors import UserError

PACKAGE = "vlmprune"


def allowed_words(target: str, name: str) -> list[str]:
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
            found = (allowed_words(imported.get(base, f"{path}.{base}"), name) for base in bases)
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


BASH = r"""# vlmprune's completion for bash; in ~/.bashrc: eval "$(vlmprune completion bash)"
_vlmprune() {
    local line="${COMP_LINE:0:COMP_POINT}" word candidate
    COMPREPLY=()
    while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done < <("$1" complete "$line" 2>/dev/null)
    (( ${#COMPREPLY[@]} )) || return  # then bash offers files
    word="${line##*[[:space:]]}"
    # readline replaces what stands behind the last = alone, where = breaks words
    if [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
complete -o default -F _vlmprune vlmprune
"""

ZSH = r"""#compdef vlmprune
# vlmprune's completion for zsh; in ~/.zshrc, after compinit: eval "$(vlmprune completion zsh)"
_vlmprune() {
    local -a found open
    found=(${(f)"$($words[1] complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    if (( ! $#found )); then
        compset -P '*='  # files behind benchmark.path= and the like
        _files
        return
    fi
    open=(${(M)found:#*[=.]})  # not finished yet: no space behind
    (( $#open )) && compadd -S '' -- $open
    found=(${found:#*[=.]})
    (( $#found )) && compadd -- $found
}
compdef _vlmprune vlmprune
"""

FISH = r"""# vlmprune's completion for fish; save as ~/.config/fish/completions/vlmprune.fish
complete -c vlmprune -a '(vlmprune complete (commandline -cp | string collect) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


# Settings of commands other than run and sweep, each of which is defined in the command's module.
COMPARE = (
    *("method", "ratio", "keep", "model", "benchmark", "limit", "seed", "dtype", "device"),
    *("outputs", "format", "columns", "chart", "charts", "html"),
)
SPEED = (
    *("method", "ratio", "keep", "positions", "scope", "budget", "seed", "device", "model", "batch_size", "speed"),
    *("compile", "outputs", "format", "json", "chart"),
)
SHOW = ("model", "method", "ratio", "keep", "positions", "scope", "budget", "seed", "device", "orientation")
WANDB_REPORT = ("project", "entity", "name", "file")
OPTIONS = {"run": ("--cfg", "--dry-run", "--multirun"), "sweep": ("--dry-run",), "compare": ("--published", "--hard")}
WITHOUT_CONFIGS = ("compare", "wandb-report", "completion")  # all others take --config-dir
FORMATS = {
    "compare": ("table", "markdown", "latex", "csv", "json"),
    "list": ("table", "markdown"),
    "speed": ("table", "markdown", "latex", "csv", "json"),
}
LISTS = ("models", "methods", "benchmarks", "experiments", "loggers", "launchers", "matrix")
PARTS = {"method.before": ("sequence", "vision"), "method.inside": ("decoder",)}  # of compose: stages of methods
SWEEP = {"experiment": None, "launcher": "inprocess", "baselines": True, "fail_fast": False}


def commands() -> list[str]:
    """Return the commands, in the order of `vlmprune --help`."""
    return list(dict.fromkeys(re.findall(r"^  vlmprune ([\w-]+)", texts.HELP, re.MULTILINE)))


def candidates(line: str) -> list[str]:
    """Return the completions of the last word of `line`, a command line up to the cursor; [] leaves it to the shell.

    A completion that ends with = or . can be completed further.
    """
    typed = line.split()[1:]
    if len(line) > LONGEST:
        return []
    *words, current = typed if typed and not line[-1].isspace() else [*typed, ""]
    if not words:
        found: Iterable[str] = [*commands(), "--help", "--version"]
    elif words[0] not in commands() or words[-1] == "--config-dir":
        found = []
    elif current.startswith("-"):
        own_configs = [] if words[0] in WITHOUT_CONFIGS else ["--config-dir"]
        found = [*OPTIONS.get(words[0], ()), *own_configs, "--help"]
    elif "=" in current:
        key, _, value = current.partition("=")
        several, comma, _ = value.rpartition(",")  # a sweep's method=cls,fastv
        try:
            found = [f"{key}={several}{comma}{each}" for each in _values(words, key)]
        except UserError:  # a --config-dir that run would refuse
            found = []
    else:
        found = _names(words, current)
    return [word for word in found if word.startswith(current)]


def _names(words: list[str], current: str) -> list[str]:
    """Return the settings and other arguments that the command takes."""
    command = words[0]
    if command == "list":
        return [*LISTS, "format="]
    if command == "completion":
        return list(SCRIPTS)
    if command == "wandb-report":
        return [f"{key}=" for key in WANDB_REPORT]
    if command == "compare":
        return [f"{key}=" for key in COMPARE]
    keys = _run_keys()
    if command == "score":
        return [f"judge.{name}=" for name in keys["judge"]]
    head, dot, _ = current.partition(".")
    if dot:
        return [f"{head}.{name}=" for name in _nested(words, head)]
    if command == "sweep":
        keys |= SWEEP
    if command == "show":
        keys = {key: keys.get(key) for key in SHOW} | {"file": None}
    if command == "speed":
        keys = {key: keys.get(key) for key in SPEED} | {"speed": {}}
    groups = [key for key in keys if key in _groups()]
    sections = [key for key in keys if isinstance(keys[key], dict)]
    return [f"{key}=" for key in keys if key not in sections] + [f"{key}." for key in [*groups, *sections]]


def _values(words: list[str], key: str) -> list[str]:
    """Return the words that a setting may be; [] if it is not limited to a few."""
    from vlmprune.config.registry import find_choices

    if key == "format":
        return list(FORMATS.get(words[0], ()))
    if key in (*_groups(), "experiment", "launcher"):
        return list(find_choices(key, _config_dir(words)))
    if key == "device":
        return ["auto", "cpu", "cuda"]
    if isinstance(SWEEP.get(key), bool):
        return ["true", "false"]
    if key in PARTS:
        methods = find_choices("method", _config_dir(words))
        return [name for name, file in methods.items() if _stage(file) in PARTS[key]]
    head, _, name = key.partition(".")
    chosen = _classes(words, head) if name else []
    return list(dict.fromkeys(word for target in chosen for word in allowed_words(target, name))) or _literals(key)


def _classes(words: list[str], head: str) -> list[str]:
    """Return the class of each typed choice of a group; for models the `Options` of every family."""
    if head == "model":
        families = sorted(Path(str(files(PACKAGE)), "models/families").glob("*.py"))
        return [f"{PACKAGE}.models.families.{file.stem}.Options" for file in families]
    return [str(choice.get("_target_", "")) for choice in _chosen(words, head)]


def _literals(key: str) -> list[str]:
    """Return the words that a setting's type hint allows; [] for any other type."""
    from vlmprune.config import settings

    section, _, name = key.rpartition(".")
    owner: Any = settings.RunSettings
    if section:
        owner = typing.get_type_hints(owner).get(section)
    hint = typing.get_type_hints(owner).get(name) if is_dataclass(owner) else None
    if hint is bool:
        return ["true", "false"]
    alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [str(word) for each in alternatives if typing.get_origin(each) is Literal for word in typing.get_args(each)]


def _nested(words: list[str], head: str) -> list[str]:
    """Return the names after `head.`; for a group, those of the typed choice or of the default."""
    keys = _run_keys() | SWEEP
    if head == words[0] == "speed":
        return re.findall(r"\bspeed\.(\w+)=", texts.SPEED)
    if isinstance(keys.get(head), dict):
        return list(keys[head])
    from vlmprune.config.registry import DESCRIPTION

    return list(dict.fromkeys(key for choice in _chosen(words, head) for key in choice if key not in DESCRIPTION))


def _chosen(words: list[str], head: str) -> list[dict[str, Any]]:
    """Return the YAML of each typed choice of a group, or of its default; [] if `head` is not a group."""
    from vlmprune.config.registry import find_choices

    if head not in (*_groups(), "launcher"):
        return []
    keys = _run_keys() | SWEEP
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{head}=")] or [str(keys[head])]
    found = find_choices(head, _config_dir(words))
    return [_read(found[name]) for name in chosen[-1].split(",") if name in found]


def _stage(file: Any) -> Any:
    """Return the stage in the `info` of a method's YAML file; None if it has none."""
    info = _read(file).get("info")
    return info.get("stage") if isinstance(info, dict) else None


def _groups() -> tuple[str, ...]:
    from vlmprune.config.registry import GROUPS

    return GROUPS


def _run_keys() -> dict[str, Any]:
    """Return the keys of run.yaml, groups included, with their defaults."""
    data = _read(files("vlmprune.configs") / "run.yaml")
    defaults = [entry for entry in data.pop("defaults") if isinstance(entry, dict)]
    return {name: choice for entry in defaults for name, choice in entry.items()} | data


def _read(file: Any) -> dict[str, Any]:
    """Return a YAML file as plain data; {} if run would refuse it."""
    import yaml

    from vlmprune.config.yaml_files import yaml_text

    try:
        data = yaml.safe_load(yaml_text(Path(str(file))))
    except (UserError, ValueError, yaml.YAMLError):
        return {}
    return {key: value for key, value in data.items() if isinstance(key, str)} if isinstance(data, dict) else {}


def _config_dir(words: list[str]) -> str | None:
    """Return the folder that --config-dir, in either spelling, names among `words`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--config-dir":
            return following
        if word.startswith("--config-dir="):
            return word.partition("=")[2]
    return None
