"""From what a dataset stores of a picture to an RGB image."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.stored import file_name, stored_picture

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_image(value: Any, folder: Path | None = None) -> Image:
    """One RGB image of a dataset's cell, whose kinds `stored_picture` has. Raises BadSample."""
    from PIL import Image

    stored = stored_picture(value, folder)
    try:
        return Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored).convert("RGB")
    # PIL reports damaged files in all of these ways, depending on the format.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadSample(f"its image cannot be decoded ({' '.join(str(error).split())[:120]})") from error


def content_key(cells: Iterable[Any]) -> str:
    """The same for cells that hold the same encoded bytes, or the same paths: without decoding, and quick."""
    digest = hashlib.sha256()
    for value in cells:
        data = value.get("bytes") if isinstance(value, dict) else value
        stored = data if isinstance(data, bytes) else str(data or file_name(value)).encode()
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
            if isinstance(value.get("bytes") if isinstance(value, dict) else value, bytes):
                return
            name = file_name(value)
            if name is not None and name not in seen and os.path.isfile(folder / name):
                seen.add(name)
                yield folder / name
