"""Decoding of pictures, as datasets store them, to RGB images."""

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
from vlmprune.benchmarks.room import check_decoding, check_together, take
from vlmprune.benchmarks.stored import file_name, stored_picture
from vlmprune.errors import said
from vlmprune.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that are opened. PIL knows more: EPS is a program, which Ghostscript would run; WMF, BUFR, GRIB and HDF5 need
# other software; MPEG is a header alone; FITS, SPIDER and the like hold measurements, IPTC and MCIDAS other files.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI"),
    *("SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
SCAN = b"\xff\xda"  # start of a scan of a JPEG; the data of a scan never hold these bytes

# Exceptions of PIL for a damaged, empty or too large file; they differ by format (found by flipping bits). The warning
# about a picture of implausible size (a decompression bomb) is raised only if warnings are errors.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, Pictures.DecompressionBombError, Pictures.DecompressionBombWarning),
)

# No warning about a large picture (PIL refuses one twice as large) or a damaged EXIF: the picture can be used.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_image(value: Any, folder: Path | None = None, orientation: Orientation = "upright") -> Image:
    """Return the RGB image of a dataset's cell, of a kind that `stored_picture` takes. Raises BadSample."""
    stored = stored_picture(value, folder)
    try:
        with open_picture(stored) as picture:
            check_decoding(picture.width * picture.height * _scans(picture))
            take(picture.width * picture.height)
            return rgb(picture, orientation)
    except DAMAGE as error:
        named = f"{stored}: " if isinstance(stored, Path) else ""
        raise BadSample(f"its image cannot be decoded ({named}{reason(error)})") from error


def decode_images(values: list[Any], folder: Path | None, orientation: Orientation) -> list[Image]:
    """Return the RGB images of all of a sample's cells. Raises BadSample, before decoding if they are too large."""
    check_together(sum(_pixels(value, folder) for value in values))
    return [decode_image(value, folder, orientation) for value in values]


def _pixels(value: Any, folder: Path | None) -> int:
    """Return a picture's number of pixels by its header; 0 if that is unreadable, which decoding then reports."""
    try:
        with open_picture(stored_picture(value, folder)) as picture:
            return picture.width * picture.height
    except BadSample:
        return 0
    except DAMAGE:
        return 0


def open_picture(stored: bytes | Path) -> Image:
    """Open a picture of one of FORMATS, reading its header alone. Raises PIL's errors, and OSError for a pipe."""
    if isinstance(stored, Path):
        check_regular(stored)
    return Pictures.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=FORMATS)


def _scans(picture: Any) -> int:
    """Return how often a decoder visits each pixel: a small progressive JPEG may have thousands of scans."""
    if picture.format not in ("JPEG", "MPO"):
        return 1
    place = picture.fp.tell()
    picture.fp.seek(0)
    scans = picture.fp.read().count(SCAN)
    picture.fp.seek(place)
    return max(1, scans)


def reason(error: Exception) -> str:
    """Return a decoder's error about a damaged file as part of a line."""
    if isinstance(error, UnidentifiedImageError):  # its text holds a memory address
        return "no picture that PIL knows"
    return said(error, 120) or type(error).__name__


def content_key(cells: Iterable[Any]) -> str:
    """Return a hash that is equal for cells of the same encoded bytes or the same paths; nothing is decoded."""
    digest = hashlib.sha256()
    for value in cells:
        data = value.get("bytes") if isinstance(value, dict) else value
        stored = data if isinstance(data, bytes) else str(data or file_name(value)).encode()
        digest.update(len(stored).to_bytes(8, "big") + stored)
    return digest.hexdigest()


def named_files(cells: Iterable[Any], folder: Path | None) -> Iterator[Path]:
    """Yield each file in `folder` that cells name instead of holding bytes, once; none if there is no folder.

    The cells of one column are stored alike, so the first one that holds bytes ends the search.
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
