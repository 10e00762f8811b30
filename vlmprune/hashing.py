"""Identity of local files by the sha256 of their content, cached so that a large set is read once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vlmprune.files import check_regular
from vlmprune.typed_json import read_json

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

MIN_CACHED_BYTES = 2**20  # bytes; hashing a smaller file costs less than a lookup


def content_identity(files: Iterable[Path]) -> str:
    """Return a sha256 over the contents of `files`, sorted by path: equal for the same data in any folder."""
    known = _read_known()
    digest, new = hashlib.sha256(), {}
    for file in sorted(files):
        status = file.stat()
        # Path, size and time of the last change, which rsync and make trust too.
        key = f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}"
        value = known.get(key) or _sha256(file)
        if status.st_size >= MIN_CACHED_BYTES and key not in known:
            new[key] = value
        digest.update(value.encode())
    if new:
        _write_known(known | new)
    return f"sha256:{digest.hexdigest()}"


def listing_identity(files: Iterable[Path], folder: Path) -> str:
    """Return a sha256 over names and sizes, for video files, which are too many and too large to be read for a hash.

    The path inside `folder` counts only for files that share a name.
    """
    files = list(files)
    times = Counter(file.name for file in files)
    names = {file: file.name if times[file.name] == 1 else str(file.relative_to(folder)) for file in files}
    listing = sorted(f"{name}:{file.stat().st_size}" for file, name in names.items())
    return f"sha256:{hashlib.sha256(chr(10).join(listing).encode()).hexdigest()}"


def _sha256(file: Path) -> str:
    """Return the hash of a file's content, or the error of an unreadable one, which its samples report when decoded."""
    try:
        check_regular(file)
        with open(file, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmprune" / "sha256.json"


def _read_known() -> dict[str, str]:
    try:
        return read_json(_cache_file(), dict[str, Digest])
    except (OSError, ValueError):  # missing or damaged: it is written again
        return {}


def _write_known(known: dict[str, str]) -> None:
    """Replace the cache in one step; if the home folder cannot be written, the hashes are computed again."""
    file = _cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as handle:
            json.dump(known, handle)
        os.replace(handle.name, file)
    except OSError:
        return


def data_hash(data: Any) -> str:
    """Hex digest of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()
