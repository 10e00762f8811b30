"""Conversion of pictures of any mode and orientation to what people see: upright, RGB of 8 bits, on white."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image as Pictures
from PIL.ExifTags import Base
from PIL.Image import Image, Transpose

from vlmprune.benchmarks.base import Orientation

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
