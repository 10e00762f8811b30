"""Folders that `datasets` wrote with save_to_disk; their JSON files are checked before `datasets` reads any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from vlmprune.errors import FAULTS, UserError, said
from vlmprune.files import check_regular
from vlmprune.typed_json import STRICT, read_json

if TYPE_CHECKING:
    import datasets


@with_config(STRICT)
class DataFile(TypedDict):
    """Arrow file by its name in the folder; the identity of the data covers no file of another folder."""

    filename: Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]


@with_config(STRICT)
class State(TypedDict):
    """Schema of state.json."""

    _data_files: Annotated[list[DataFile], Field(min_length=1)]
    _fingerprint: NotRequired[str | None]
    _format_columns: NotRequired[list[str] | None]
    _format_kwargs: NotRequired[dict[str, Any]]
    _format_type: NotRequired[str | None]
    _output_all_columns: NotRequired[bool]
    _split: NotRequired[str | None]


@with_config(STRICT)
class Info(TypedDict):
    """Schema of the parts of dataset_info.json that decide how the Arrow files are read."""

    features: NotRequired[dict[str, Any] | None]
    splits: NotRequired[dict[str, Any] | None]
    version: NotRequired[dict[str, Any] | str | None]


def open_saved(folder: Path, path: str) -> datasets.Dataset:
    """Return the dataset in `folder`, unformatted. Raises UserError, which names the fault. path: the setting."""
    import datasets

    for name, schema in (("state.json", State), ("dataset_info.json", Info)):
        try:
            found: dict[str, Any] = read_json(folder / name, schema)  # type: ignore[arg-type]
            for entry in found.get("_data_files", []):
                check_regular(folder / entry["filename"])
        except (OSError, ValueError) as error:
            raise UserError(f"benchmark.path={path}: {name} cannot be used ({said(error)})") from error
    try:
        return datasets.Dataset.load_from_disk(str(folder)).with_format(None)
    except (OSError, *FAULTS) as error:
        raise UserError(f"benchmark.path={path}: cannot be loaded ({said(error) or type(error).__name__})") from error
