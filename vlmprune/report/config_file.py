"""Reader of a run directory's config.yaml as plain data. The file is untrusted input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.errors import said
from vlmprune.files import read_bytes
from vlmprune.typed_json import STRICT, check_data

LARGEST = 2**22  # bytes; a hundred times the longest that a sweep writes


@with_config(STRICT)
class Config(TypedDict):
    """The parts that reports read; each is a mapping of settings."""

    method: NotRequired[dict[str, Any]]
    model: NotRequired[dict[str, Any]]
    benchmark: NotRequired[dict[str, Any]]


def read_config(file: Path) -> dict[str, Any]:
    """Return a recorded config as plain data. Raise OSError, or ValueError with one line.

    Aliases are refused: vlmprune writes none, and a small file with aliases can expand beyond memory.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if PyYAML has libyaml
    text = read_bytes(file, LARGEST)
    try:
        if b"*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it has aliases (*NAME), which no recorded config has")
        data = yaml.load(text, loader)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {said(error)}") from error
    return dict(check_data(data, Config))
