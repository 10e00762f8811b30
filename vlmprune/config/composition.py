"""Composition of a run by Hydra from vlmprune's YAMLs and a user's own, with errors as one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from vlmprune.config.overrides import CONFIG_MODULE, hydra_error_line
from vlmprune.config.yaml_files import read_yaml
from vlmprune.errors import FAULTS, UserError, error_text

SCHEME = "vlmprune"
INNERMOST = re.compile(r"\$\{([^${}]*)\}")
CALLED = re.compile(r"\$\{\s*([^\s${}:]*)\s*:")
ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")  # after an odd number of backslashes ${ is plain text
RESOLVERS = ("oc.env", "oc.decode", "now")  # ${oc.env:HOME}, ${oc.decode:${oc.env:SEED}}, ${now:%Y-%m-%d}
LONGEST = 100_000  # characters of a text, or values of a mapping, after interpolation
ALLOWED = f"allowed: a setting, such as ${{seed}}, and {', '.join(f'${{{name}:...}}' for name in RESOLVERS)}"


def compose(overrides: list[str], groups: list[str], config_dir: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the run's settings as plain data, and the name of each group's choice. Raise UserError if that fails."""
    import hydra
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    search = []
    if config_dir is not None:
        _register()
        search = [f"hydra.searchpath=['{SCHEME}://{quote(config_dir)}']"]  # quoted for $, ' and commas in its name
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            composed = hydra.compose("run", overrides=overrides + search, return_hydra_config=True)
            names = {group: str(composed.hydra.runtime.choices[group]) for group in groups}
            with open_dict(composed):
                del composed["hydra"]
            check_interpolations(_plain(composed, resolve=False))
            return _plain(composed, resolve=True), names
    except (hydra.errors.HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(hydra_error_line(error)) from error
    except RecursionError as error:
        raise UserError(
            "the settings do not end: a defaults list or an ${...} in a YAML leads back to itself"
        ) from error
    except FAULTS as error:  # of Hydra's own code, about a user's YAML
        raise UserError(f"the settings cannot be composed ({type(error).__name__}: {error_text(error)})") from error


def _plain(composed: Any, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf

    data = OmegaConf.to_container(composed, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def _register() -> None:
    """Register with Hydra a source for a user's YAMLs that reads as vlmprune does: bounded, from regular files only."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigResult

    class OwnConfigs(FileConfigSource):
        def __init__(self, provider: str, path: str) -> None:
            super().__init__(provider, unquote(path))

        @staticmethod
        def scheme() -> str:
            return SCHEME

        def load_config(self, config_path: str) -> ConfigResult:
            read_yaml(Path(self.path, self._normalize_file_name(config_path)))
            return super().load_config(config_path)

    Plugins.instance().register(OwnConfigs)


def check_interpolations(settings: dict[str, Any]) -> None:
    """Raise UserError if an unresolved, nested setting refers to itself, calls an unknown resolver, or is too long.

    Twenty settings, each of which repeats the next one twice, would become a million characters.
    """
    _InterpolationSizes(settings).of((), settings)


class _InterpolationSizes:
    """Length of each setting with its references resolved, each computed once."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.known: dict[tuple[str, ...], int] = {}
        self.open: list[tuple[str, ...]] = []

    def of(self, path: tuple[str, ...], value: Any) -> int:
        """Return the number of characters and values of the setting at `path`. Raise UserError if it is refused."""
        if path in self.known:
            return self.known[path]
        name = ".".join(path)
        if path in self.open:
            raise UserError(f"{name}: its ${{...}} leads to {name} itself; {ALLOWED}")
        self.open.append(path)
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            size = 1 + sum(self.of((*path, str(key)), item) for key, item in items)
        elif isinstance(value, str) and "${" in value:
            size = len(value) + sum(map(self._size_at, self._references(path, value)))
            if size > LONGEST:
                raise UserError(f"{name}={value}: what its ${{...}} stand for is longer than {LONGEST:,} characters")
        else:
            size = len(value) if isinstance(value, str) else 1
        self.open.pop()
        self.known[path] = size
        return size

    def _references(self, path: tuple[str, ...], text: str) -> list[tuple[str, ...]]:
        """Return the paths of the settings that `text` refers to. Raise UserError for a resolver not in RESOLVERS."""
        name = ".".join(path)
        text = ESCAPED.sub("", text)
        for resolver in CALLED.findall(text):
            if resolver not in RESOLVERS:
                raise UserError(f"{name}: what stands in ${{...}} is unknown (${{{resolver}:...}}); {ALLOWED}")
        found = []
        while match := INNERMOST.search(text):
            inner, text = match[1].strip(), f"{text[: match.start()]}\0{text[match.end() :]}"
            if ":" not in inner and "\0" in inner:
                raise UserError(f"{name}: what stands in ${{...}} is unknown (a name of other names); {ALLOWED}")
            if ":" not in inner:
                found.append(self._absolute(path, inner))
        return found

    def _absolute(self, path: tuple[str, ...], name: str) -> tuple[str, ...]:
        """Return the path of a name, which is relative to its siblings after one dot, to their parents after two."""
        dots = len(name) - len(name.lstrip("."))
        above = path[: max(0, len(path) - dots)] if dots else ()
        return (*above, *(part for part in re.split(r"[.\[\]]", name[dots:]) if part))

    def _size_at(self, path: tuple[str, ...]) -> int:
        """Return the size of the setting at `path`; 0 if there is none, for which OmegaConf has an error."""
        value: Any = self.root
        for part in path:
            if isinstance(value, list):
                value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return 0 if value is None else self.of(path, value)
