"""Reading of a checkpoint's small files, checked before a library opens them: kind of file, size and JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from vlmprune.errors import UserError, said
from vlmprune.files import check_regular, read_bytes
from vlmprune.typed_json import parse_json

LARGEST = 2**24  # bytes of a file of settings; published files have at most a hundredth of it
LARGEST_TOKENIZER = 2**28
KINDS = (".json", ".safetensors", ".jinja", ".model", ".txt")


def check_folder(folder: Path, start: str) -> None:
    """Raise UserError if a file is a pipe, a device, a folder or a broken link, or the chat template is too large.

    start: of the error's text.
    """
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
    """Return the object in a JSON file of a folder or hub name; None if it is not `required` and not found.

    Raises OSError, and ValueError if it is no JSON, no object, or does not fit the schema.
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
        return parse_json(content, schema, finite=False)  # libraries accept -Infinity in fields not in the schema
    except (OSError, ValueError) as error:
        raise ValueError(said(error)) from error
