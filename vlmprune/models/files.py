"""A checkpoint's small files, looked at before a library opens them: what is no file, no object or too large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from vlmprune.errors import UserError, said
from vlmprune.files import check_regular, read_bytes
from vlmprune.typed_json import parse_json

LARGEST = 2**24  # bytes of a file of settings; published ones have at most a hundredth of it
LARGEST_TOKENIZER = 2**28
KINDS = (".json", ".safetensors", ".jinja", ".model", ".txt")


def check_folder(folder: Path, start: str) -> None:
    """Raise UserError where a pipe, a device, a folder or nothing stands for a file, or a file is far too large."""
    for file in sorted(path for path in folder.iterdir() if path.suffix in KINDS):
        try:
            check_regular(file)
        except OSError as error:
            raise UserError(f"{start} {file.name}: {error.strerror}") from error
    template = folder / "chat_template.jinja"
    if template.exists() and (size := template.stat().st_size) > LARGEST:
        raise UserError(f"{start} {template.name}: it has {size:,} bytes; at most {LARGEST:,} are read")


def read_object(
    source: str, name: str, revision: str | None, schema: Any = dict[str, Any], required: bool = True
) -> Any:
    """The object in a JSON file of a folder or hub name; None where one that is not required cannot be had.

    Raises OSError, and ValueError where it is no JSON, no object, or does not fit the schema.
    """
    file = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=required,
        _raise_exceptions_for_connection_errors=required,
    )
    if file is None:
        return None
    try:
        content = read_bytes(file, LARGEST_TOKENIZER if name == "tokenizer.json" else LARGEST)
        return parse_json(content, schema, finite=False)  # where -Infinity may be meant
    except (OSError, ValueError) as error:
        raise ValueError(said(error)) from error
