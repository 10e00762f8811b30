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
from vlmprune.benchmarks.room import check_decoding, check_together, take
from vlmprune.benchmarks.stored import file_name, stored_picture
from vlmprune.errors import said
from vlmprune.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats of pictures. PIL opens more: EPS is a program, which Ghostscript would run; WMF, BUFR, GRIB and HDF5 need
# software of others; MPEG is a header alone; FITS, SPIDER and the like hold measurements, IPTC and MCIDAS other files.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI"),
    *("SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
SCAN = b"\xff\xda"  # where a scan of a JPEG begins; inside of one no 0xff stands alone

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
        with open_picture(stored) as picture:
            check_decoding(picture.width * picture.height * _scans(picture))
            take(picture.width * picture.height)
            return rgb(picture, orientation)
    except DAMAGE as error:
        named = f"{stored}: " if isinstance(stored, Path) else ""
        raise BadSample(f"its image cannot be decoded ({named}{reason(error)})") from error


def decode_images(values: list[Any], folder: Path | None, orientation: Orientation) -> list[Image]:
    """The same of all of a sample's cells. Where they are too large together none is decoded."""
    check_together(sum(_pixels(value, folder) for value in values))
    return [decode_image(value, folder, orientation) for value in values]


def _pixels(value: Any, folder: Path | None) -> int:
    """Of a picture by its header; 0 where that cannot be read, which decoding it then tells."""
    try:
        with open_picture(stored_picture(value, folder)) as picture:
            return picture.width * picture.height
    except BadSample:
        return 0
    except DAMAGE:
        return 0


def open_picture(stored: bytes | Path) -> Image:
    """A picture of one of FORMATS, its header alone read. Raises what PIL raises, and OSError for a pipe or device."""
    if isinstance(stored, Path):
        check_regular(stored)
    return Pictures.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=FORMATS)


def _scans(picture: Any) -> int:
    """Return how often a decoder goes over the picture: a small progressive JPEG may have thousands of scans."""
    if picture.format not in ("JPEG", "MPO"):
        return 1
    place = picture.fp.tell()
    picture.fp.seek(0)
    scans = picture.fp.read().count(SCAN)
    picture.fp.seek(place)
    return max(1, scans)


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
