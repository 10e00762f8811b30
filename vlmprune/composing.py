"""Hydra composes a run from vlmprune's YAMLs and a user's own; what it and OmegaConf say of them becomes one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from vlmprune.errors import FAULTS, UserError, said
from vlmprune.interpolations import check_interpolations
from vlmprune.overrides import CONFIG_MODULE, explain
from vlmprune.yaml_files import read_yaml

SCHEME = "vlmprune"


def compose(overrides: list[str], groups: list[str], config_dir: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the run's settings as plain data, and the name of each group's choice. Raises UserError."""
    import hydra
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    search = []
    if config_dir is not None:
        _register()
        search = [f"hydra.searchpath=['{SCHEME}://{quote(config_dir)}']"]  # a folder's name may have $, ' and commas
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            composed = hydra.compose("run", overrides=overrides + search, return_hydra_config=True)
            names = {group: str(composed.hydra.runtime.choices[group]) for group in groups}
            with open_dict(composed):
                del composed["hydra"]
            check_interpolations(_plain(composed, resolve=False))
            return _plain(composed, resolve=True), names
    except (hydra.errors.HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error)) from error
    except RecursionError as error:
        raise UserError(
            "the settings do not end: a defaults list or an ${...} in a YAML leads back to itself"
        ) from error
    except FAULTS as error:  # of Hydra's own code, about a user's YAML
        raise UserError(f"the settings cannot be composed ({type(error).__name__}: {said(error)})") from error


def _plain(composed: Any, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf

    data = OmegaConf.to_container(composed, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def _register() -> None:
    """Make known to Hydra where a user's YAMLs are read: as vlmprune reads them, bounded and from regular files."""
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
