"""From what a dataset stores to an RGB image: encoded bytes or a path."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.benchmarks.base import BadSample

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_image(value: Any, folder: Path | None = None) -> Image:
    """One RGB image of a dataset's cell: {"bytes", "path"}, or a path in `folder`. Raises BadSample."""
    from PIL import Image

    if isinstance(value, str):
        value = {"bytes": None, "path": value}
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        raise BadSample("its image is missing")
    try:
        if value.get("bytes"):
            return Image.open(io.BytesIO(value["bytes"])).convert("RGB")
        return Image.open((folder or Path()) / value["path"]).convert("RGB")
    except FileNotFoundError as error:
        raise BadSample(f"its image {value['path']} is missing") from error
    # PIL reports damaged files in all of these ways, depending on the format.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadSample(f"its image cannot be decoded ({' '.join(str(error).split())[:120]})") from error


def content_key(cells: Iterable[Any]) -> str:
    """The same for cells that hold the same encoded bytes, or the same paths: without decoding, and quick."""
    digest = hashlib.sha256()
    for value in cells:
        data = value.get("bytes") if isinstance(value, dict) else None
        stored = data or str(value.get("path") if isinstance(value, dict) else value).encode()
        digest.update(len(stored).to_bytes(8, "big") + stored)
    return digest.hexdigest()


def named_files(cells: Iterable[Any], folder: Path | None) -> Iterator[Path]:
    """The files in `folder` that cells name instead of holding bytes, each once; none where there is no folder.

    The cells of one column are all stored alike or in memory: where the first holds bytes no other is read.
    """
    if folder is None:
        return
    seen: set[str] = set()
    for cell in cells:
        for value in cell if isinstance(cell, list) else [cell]:
            if isinstance(value, dict) and value.get("bytes"):
                return
            name = value.get("path") if isinstance(value, dict) else value
            if isinstance(name, str) and name not in seen and (folder / name).is_file():
                seen.add(name)
                yield folder / name
