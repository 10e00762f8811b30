"""Completion by a shell's TAB key: commands, options, settings and their values, and the scripts that ask.

They come from configs/ and the commands' dataclasses, without heavy imports and without importing a user's classes.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from vlmprune.cli import COMMANDS
from vlmprune.config.arguments import Argument, OfRun, Words, parse, read_fields
from vlmprune.config.overrides import LONGEST
from vlmprune.errors import UserError
from vlmprune.sweep.jobs import SweepSettings

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

HELP = """\
vlmprune completion bash|zsh|fish: print the script that lets the TAB key complete commands, settings and choices.

  eval "$(vlmprune completion bash)"                                       in ~/.bashrc
  eval "$(vlmprune completion zsh)"                                        in ~/.zshrc, after compinit
  vlmprune completion fish > ~/.config/fish/completions/vlmprune.fish

Then, for example, `vlmprune run method=py<TAB>` and `vlmprune sweep method=fastv method.<TAB>`.
"""
PARTS = {"method.before": ("sequence", "vision"), "method.inside": ("decoder",)}  # of compose: stages of methods
SWEEP = {"experiment": None} | {each.name: each.default for each in fields(SweepSettings) if each.default != MISSING}


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune completion`."""

    shell: Annotated[str, Words(), Literal[tuple(SCRIPTS)]] = ""


def print_script(arguments: list[str]) -> int:
    """Print the script of a shell; return the exit code. Raise UserError for another shell."""
    print(SCRIPTS[parse("completion", Settings, arguments).shell], end="")
    return 0


def candidates(line: str) -> list[str]:
    """Return the completions of the last word of `line`, a command line up to the cursor; [] leaves it to the shell.

    A completion that ends with = or . can be completed further.
    """
    typed = line.split()[1:]
    if len(line) > LONGEST:
        return []
    *words, current = typed if typed and not line[-1].isspace() else [*typed, ""]
    if not words:
        found: Iterable[str] = [*COMMANDS, "--help", "--version"]
    elif words[0] not in COMMANDS or words[-1] == "--config-dir":
        found = []
    else:
        declared = read_fields(COMMANDS[words[0]].module.Settings)
        key, equals, value = current.partition("=")
        if current.startswith("-"):
            found = [*(each.option for each in declared if each.option), "--help"]
        elif equals:
            several, comma, _ = value.rpartition(",")  # a sweep's method=cls,fastv
            try:
                found = [f"{key}={several}{comma}{each}" for each in _values(declared, words, key)]
            except UserError:  # a --config-dir that run would refuse
                found = []
        else:
            found = [name for each in declared for name in _names(each, words, current)]
    return [word for word in found if word.startswith(current)]


def _names(argument: Argument, words: list[str], current: str) -> list[str]:
    """Return the settings of a field of the command, and the words that it may be."""
    if (mark := argument.mark(Words)) is not None:
        kinds = [word for word in words[1:] if word in argument.choices]
        return [*argument.choices, *(_choices(kinds[-1].removesuffix("s"), words) if mark.names and kinds else ())]
    head, dot, _ = current.partition(".")
    if argument.mark(OfRun) is None:
        return [f"{key}=" for key in argument.keys] if dot or argument.group is None else [f"{argument.name}."]
    keys = _run_keys(words)
    keys = {key: keys.get(key) for key in argument.keys or keys}
    if dot:
        return [f"{head}.{name}=" for name in _nested(words, head)] if head in keys else []
    groups = [key for key in keys if key in (*_groups(), "launcher")]
    sections = [key for key in keys if isinstance(keys[key], dict)]
    return [f"{key}=" for key in keys if key not in sections] + [f"{key}." for key in [*groups, *sections]]


def _values(declared: list[Argument], words: list[str], key: str) -> list[str]:
    """Return the words that a setting may be; [] if it is not limited to a few."""
    from vlmprune.config.registry import find_choices

    if own := next((each.choices for each in declared if key in each.keys and each.choices), ()):
        return list(own)
    if found := _choices(key, words):
        return found
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


def _choices(group: str, words: list[str]) -> list[str]:
    """Return the choices of a group, also of experiments and launchers; [] if there is no such group."""
    from vlmprune.config.registry import find_choices

    return list(find_choices(group, _config_dir(words))) if group in (*_groups(), "experiment", "launcher") else []


def _classes(words: list[str], head: str) -> list[str]:
    """Return the class of each typed choice of a group; for models the `Options` of every family."""
    if head == "model":
        families = sorted(Path(str(files(PACKAGE)), "models/families").glob("*.py"))
        return [f"{PACKAGE}.models.families.{file.stem}.Options" for file in families]
    return [str(choice.get("_target_", "")) for choice in _chosen(words, head)]


def _literals(key: str) -> list[str]:
    """Return the words that a setting of a run may be by its type hint; [] for any other type."""
    from vlmprune.config import settings

    section, _, name = key.rpartition(".")
    owner: Any = settings.RunSettings
    if section:
        owner = typing.get_type_hints(owner).get(section)
    declared = read_fields(owner) if isinstance(owner, type) and is_dataclass(owner) else []
    found = next((each for each in declared if each.name == name), None)
    return [] if found is None else ["true", "false"] if found.hint is bool else list(found.choices)


def _nested(words: list[str], head: str) -> list[str]:
    """Return the names after `head.`; for a group, those of the typed choice or of the default."""
    from vlmprune.config.registry import DESCRIPTION

    section = _run_keys(words).get(head)
    if isinstance(section, dict):
        return list(section)
    return list(dict.fromkeys(key for choice in _chosen(words, head) for key in choice if key not in DESCRIPTION))


def _chosen(words: list[str], head: str) -> list[dict[str, Any]]:
    """Return the YAML of each typed choice of a group, or of its default; [] if `head` is not a group."""
    from vlmprune.config.registry import find_choices

    if head not in (*_groups(), "launcher"):
        return []
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{head}=")]
    chosen = chosen or [str((_run_keys(words) | SWEEP)[head])]
    found = find_choices(head, _config_dir(words))
    return [_read(found[name]) for name in chosen[-1].split(",") if name in found]


def _stage(file: Any) -> Any:
    """Return the stage in the `info` of a method's YAML file; None if it has none."""
    info = _read(file).get("info")
    return info.get("stage") if isinstance(info, dict) else None


def _groups() -> tuple[str, ...]:
    from vlmprune.config.registry import GROUPS

    return GROUPS


def _run_keys(words: list[str]) -> dict[str, Any]:
    """Return the keys of run.yaml, groups included, with their defaults; for a sweep its own too."""
    data = _read(files("vlmprune.configs") / "run.yaml")
    defaults = [entry for entry in data.pop("defaults") if isinstance(entry, dict)]
    keys = {name: choice for entry in defaults for name, choice in entry.items()} | data
    return keys | SWEEP if words[0] == "sweep" else keys


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
