"""RGB images from what a dataset stores of a picture, within bounded memory.

A decoded pixel takes 4 bytes, and conversion and preprocessing hold several copies of a picture.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pictures
from PIL import UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.Image import Image, Transpose

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.stored import file_name, stored_picture
from vlmprune.config.settings import Orientation
from vlmprune.errors import error_text
from vlmprune.files import check_regular

GREYS = ("I", "F", "I;16")  # more than 8 bits; "I;16" in either order of bytes
TURNS = {  # EXIF 2.3, tag 0x0112; 1 is upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SLACK = 1e-3  # by which float greys of 0 to 1 may exceed 1


def rgb(image: Image, orientation: Orientation = "upright") -> Image:
    """Return the picture in RGB; transparent pixels become white. Raises ValueError for greys of an unknown range.

    Published scripts use `Image.open(file).convert("RGB")`: nothing is turned, transparent pixels show the colour that
    is stored in them (mostly black), and greys of more than 8 bits are clipped at 255. vLLM puts RGBA on white as here.
    """
    image.load()  # some formats read their EXIF after the pixels
    if orientation == "upright":
        image = upright(image)
    if image.mode.startswith(GREYS):
        image = grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Pictures.alpha_composite(Pictures.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def upright(image: Image) -> Image:
    """Return the picture turned as its EXIF says, as `datasets` and phones show it; an unreadable EXIF is ignored.

    `ImageOps.exif_transpose` also rewrites the whole EXIF, and fails if any other entry of it is damaged.
    """
    try:
        turn = TURNS.get(image.getexif().get(Base.Orientation, 1))
    except (SyntaxError, TypeError, ValueError, struct.error):
        return image
    return image if turn is None else image.transpose(turn)


def grey(image: Image) -> Image:
    """Return a grey picture of more than 8 bits in 8 bits, mode `L`.

    16 bits give their upper byte, as PIL reads 16-bit colour. 32-bit integers define no white: up to 255 they are
    kept, up to 65,535 read as 16 bits. Floats range from 0 to 1, or from 0 to 255. Raises ValueError for other ranges.
    """
    values = np.asarray(image)
    least, most = values.min(), values.max()  # nan if any value is nan
    if image.mode == "F" and least >= 0 and most <= 1 + SLACK:
        light = np.rint(values.clip(max=1) * 255)
    elif image.mode in ("I", "F") and least >= 0 and most <= 255:
        light = np.rint(values)
    elif image.mode != "F" and least >= 0 and most <= 65535:
        light = values >> 8
    else:
        allowed = "0 to 1 or 0 to 255" if image.mode == "F" else "0 to 65535"
        raise ValueError(f"grey values from {least:g} to {most:g}; allowed: {allowed}")
    light = light.astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        light[values == clear] = 255
    return Pictures.fromarray(light)


LARGE_SAMPLE_PIXELS = 2**25  # pixels of one sample; samples beyond it are decoded one at a time
MAX_SAMPLE_PIXELS = 2**29  # pixels of one sample's pictures or frames together: 64 frames of 3840 x 2160
MAX_DECODER_PIXELS = 2**30  # pixels that decoding one file visits: all frames of an animation, all scans of a JPEG

_large = threading.Lock()


class _SampleBudget(threading.local):
    """Pixels that this thread's sample has decoded so far."""

    inside = locked = False
    pixels = 0


_budget = _SampleBudget()


@contextmanager
def sample_budget() -> Iterator[None]:
    """Count the pixels of all `reserve_pixels` calls of this thread inside the block as those of one sample."""
    _budget.inside = True
    try:
        yield
    finally:
        if _budget.locked:
            _large.release()
        _budget.inside = _budget.locked = False
        _budget.pixels = 0


def reserve_pixels(pixels: int) -> None:
    """Wait until so many pixels may be decoded, added to the sample's others. Raises BadSample if they are too many.

    Outside of `sample_budget` each call is counted alone and never waits.
    """
    total = pixels + (_budget.pixels if _budget.inside else 0)
    check_sample_pixels(total)
    if _budget.inside:
        _budget.pixels = total
        if total > LARGE_SAMPLE_PIXELS and not _budget.locked:
            _large.acquire()
            _budget.locked = True


def check_sample_pixels(pixels: int) -> None:
    """Raise BadSample if the pictures or frames of one sample have too many pixels together."""
    if pixels > MAX_SAMPLE_PIXELS:
        raise BadSample(
            f"its pictures or frames have {pixels:,} pixels together; at most {MAX_SAMPLE_PIXELS:,} are decoded"
        )


def check_decoder_pixels(pixels: int) -> None:
    """Raise ValueError if decoding one file would visit so many pixels that it takes too long."""
    if pixels > MAX_DECODER_PIXELS:
        raise ValueError(f"{pixels:,} pixels are to be decoded; at most {MAX_DECODER_PIXELS:,}")


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
            check_decoder_pixels(picture.width * picture.height * _scans(picture))
            reserve_pixels(picture.width * picture.height)
            return rgb(picture, orientation)
    except DAMAGE as error:
        named = f"{stored}: " if isinstance(stored, Path) else ""
        raise BadSample(f"its image cannot be decoded ({named}{reason(error)})") from error


def decode_images(values: list[Any], folder: Path | None, orientation: Orientation) -> list[Image]:
    """Return the RGB images of all of a sample's cells. Raises BadSample, before decoding if they are too large."""
    check_sample_pixels(sum(_pixels(value, folder) for value in values))
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
    return error_text(error, 120) or type(error).__name__


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
