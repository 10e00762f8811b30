"""Forms in which a cell stores a picture: encoded bytes, base64, or the name of a file."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.columns import has_value

SHORTEST = 64  # characters of a picture in base64; a shorter text is a name
_MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0")  # first bytes


def stored_picture(value: Any, folder: Path | None = None) -> bytes | Path:
    """Return a cell's encoded bytes, or the file in `folder` that it names. Raises BadSample if it is neither.

    value: bytes, text, or an object with one of them as `bytes` or `path`. Text is a file's name, base64, or a data:
    URI.
    """
    if isinstance(value, dict):
        given = value.get("bytes") or value.get("path")
        if given is None and value and not {"bytes", "path"} & value.keys():
            raise BadSample(f"its image is an object with {', '.join(map(str, value))[:60]}; expected bytes or path")
        value = given
    if not has_value(value):
        raise BadSample("its image is missing")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadSample(f"its image is {str(value)[:60]}; expected a file's name, encoded bytes or base64")
    if value[:5].lower() == "data:":
        return _of_uri(value)
    file = (folder or Path()) / value
    if os.path.isfile(file):  # also False for a name that is too long for a file
        return file
    if os.path.exists(file):
        raise BadSample(f"its image {_short(value)} is no file, but a folder, pipe, socket or device")
    if (data := _of_base64(value)) is not None:
        return data
    if "://" in value[:10]:
        raise BadSample(f"its image {_short(value)} is an address: download it, and name the file")
    raise BadSample(f"its image {_short(value)} is missing" if len(value) <= 255 else _unknown_picture(value))


def file_name(value: Any) -> str | None:
    """Return the file name that a cell may hold instead of a picture, else None."""
    name = value.get("path") if isinstance(value, dict) and not value.get("bytes") else value
    return name if isinstance(name, str) else None


def _of_uri(text: str) -> bytes:
    kind, comma, body = text.partition(",")
    if not comma or not kind.lower().endswith(";base64"):
        raise BadSample(f"its image {_short(text)} is no data: URI in base64 (data:image/png;base64,...)")
    if (data := _decode_base64(body)) is None:
        raise BadSample(f"its image {_short(text)} is not valid base64")
    return data


def _of_base64(text: str) -> bytes | None:
    """Return the bytes of a picture in base64; None for any other text."""
    data = _decode_base64(text) if len(text) >= SHORTEST else None
    return data if data is not None and data.startswith(_MARKS) else None


def _decode_base64(text: str) -> bytes | None:
    try:
        # Some writers break lines, some leave out the padding, some write - and _ for + and /.
        joined = "".join(text.split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _unknown_picture(text: str) -> str:
    return f"its image {_short(text)} ({len(text):,} characters) is neither a file's name nor a picture in base64"


def _short(text: str) -> str:
    return text if len(text) <= 255 and text[:5].lower() != "data:" else f"{text[:40]}..."
