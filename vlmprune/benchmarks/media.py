"""From what a dataset stores to an RGB image: encoded bytes or a path."""

from __future__ import annotations

import io
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
