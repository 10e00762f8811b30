"""From what a dataset stores of a picture to an RGB image."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from vlmprune.benchmarks.base import BadSample, Orientation
from vlmprune.benchmarks.rgb import rgb
from vlmprune.benchmarks.stored import file_name, stored_picture
from vlmprune.errors import said

if TYPE_CHECKING:
    from PIL.Image import Image

# What PIL raises for a damaged, empty or too large file, each format in ways of its own (found by flipping bits). Of a
# picture too large to be meant (a decompression bomb) the warning counts only where warnings are errors.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, Pictures.DecompressionBombError, Pictures.DecompressionBombWarning),
)

# Of a large picture (PIL refuses one twice as large) or a damaged EXIF nothing is said: the picture is there.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(value: Any, folder: Path | None = None, orientation: Orientation = "upright") -> Image:
    """One RGB image of a dataset's cell, whose kinds `stored_picture` has. Raises BadSample."""
    stored = stored_picture(value, folder)
    try:
        with Pictures.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as picture:
            return rgb(picture, orientation)
    except DAMAGE as error:
        named = f"{stored}: " if isinstance(stored, Path) else ""
        raise BadSample(f"its image cannot be decoded ({named}{reason(error)})") from error


def reason(error: Exception) -> str:
    """A decoder's words about a damaged file, as part of a line."""
    if isinstance(error, UnidentifiedImageError):  # it says the address of the object that holds the bytes
        return "no picture that PIL knows"
    return said(error, 120) or type(error).__name__


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
