"""Reading of YAML from any source: regular files of bounded size, whose anchors and brackets cannot fill the memory."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

from vlmprune.errors import FAULTS, UserError
from vlmprune.files import read_bytes

LARGEST = 2**20  # bytes; the largest YAML of vlmprune has 4,000
DEEPEST = 50  # levels of nested brackets or indents
MOST = 100_000  # values, with those of an alias counted at each use


def yaml_text(file: Path) -> str:
    """Return the text of a YAML file that is safe to build. Raise UserError with the name of a file that is not.

    PyYAML builds the values of an alias once, OmegaConf at each use: ten lines can mean 10**9 values.
    """
    import yaml

    try:
        text = read_bytes(file, LARGEST).decode("utf-8-sig")
        problem = _exceeded_limit(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if problem:
        raise UserError(f"{file} is not valid YAML: {problem}")
    return text


def _exceeded_limit(text: str) -> str:
    """Return the limit that a YAML text exceeds, as text, or "". Raise YAMLError if it is not YAML."""
    import yaml

    sizes: dict[str, int] = {}  # anchor -> values in it, of those that are complete
    opened: list[tuple[str | None, int]] = []  # anchor of each open collection, and the values before it
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in opened]:
                return f"*{event.anchor} stands inside of what it names"
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(opened) > DEEPEST:
            return f"more than {DEEPEST} values are nested in one another"
        if count > MOST:
            return f"more than {MOST:,} values, with those that its aliases stand for"
    return ""


def read_yaml(file: Path) -> dict[str, Any]:
    """Return a choice's YAML as plain data, with unresolved interpolations. Raise UserError that names the file."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    text = yaml_text(file)
    try:
        data = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (YAMLError, OmegaConfBaseException, OSError, *FAULTS) as error:  # OmegaConf raises OSError for a bare number
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} must hold key: value lines")
    _check_plain(data, str(file))
    return {str(key): value for key, value in data.items()}


def read_comments(file: Path) -> tuple[str, dict[str, str]]:
    """Return the comment above a YAML's first key, and that beside each key by its name, such as judge.wait."""
    import yaml

    text = yaml_text(file)
    lines = text.splitlines()
    above = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    found = dict[str, str]()

    def walk(mapping: yaml.Node, prefix: str) -> None:
        assert isinstance(mapping, yaml.MappingNode)
        for key, value in mapping.value:
            inner = isinstance(value, yaml.CollectionNode) and not value.flow_style
            mark = key.end_mark if inner else value.end_mark
            _, sign, comment = lines[mark.line][mark.column :].partition("#")
            found[prefix + key.value] = comment.strip() if sign else ""
            if inner and isinstance(value, yaml.MappingNode):
                walk(value, f"{prefix}{key.value}.")

    walk(yaml.compose(text, Loader=yaml.SafeLoader), "")
    return " ".join(above), found


def _check_plain(value: Any, where: str) -> None:
    """Raise UserError for a key that is not text, and for an integer of more than 63 bits."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key} is a {type(key).__name__}; in quotes it is text: '{key}'")
            _check_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif isinstance(value, int) and value.bit_length() > 63:
        raise UserError(f"{where}: an integer of {value.bit_length()} bits; allowed: 63")
