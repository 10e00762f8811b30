"""Download of one split's files of a hub dataset into the hub's cache, without the other splits."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vlmprune.benchmarks.row_files import TEXT_FILES
from vlmprune.progress import say

README = "README.md"
DATA_FILES = (".parquet", *TEXT_FILES)
_ADDRESS = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<commit>[^/]+)/(?P<file>.+)")


class _NoBar(tqdm):
    """Hidden progress bar, for a dry run that downloads nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


def fetch(files: list[str], split: str, revision: str | None) -> tuple[list[str], str] | None:
    """Return local copies of a split's data files, and their commit; None if they are not on the hub.

    files: as `datasets` addresses them, hf://datasets/NAME@COMMIT/FILE. Files missing in the cache are downloaded with
    progress bars, after a line that gives their size. Raises OSError if the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    found = [match for file in files if (match := _ADDRESS.fullmatch(file))]
    if not found or len(found) < len(files):
        return None
    name, commit, inside = found[0]["name"], found[0]["commit"], [match["file"] for match in found]
    kept = [try_to_load_from_cache(name, each, repo_type="dataset", revision=commit) for each in inside]
    if all(isinstance(each, str) for each in kept):
        return [str(each) for each in kept], commit
    # By `revision` and not by the commit, so that the cache links the two for `fetched`. README.md lists the splits.
    wanted: dict[str, Any] = {
        "repo_type": "dataset",
        "revision": revision,
        "allow_patterns": [*map(escape, inside), README],
    }
    files_there = snapshot_download(name, **wanted, dry_run=True, tqdm_class=_NoBar)
    missing = [entry for entry in files_there if entry.will_download]
    size = sum(entry.file_size or 0 for entry in missing)
    say(f"fetching split '{split}' of {name}: {_size(size)} in {len(missing)} files, into {HF_HUB_CACHE}")
    folder = Path(snapshot_download(name, **wanted))
    return [str(folder / each) for each in inside], folder.name


def fetched(name: str, config: str | None, split: str, revision: str | None) -> tuple[list[str], str] | None:
    """Return a split's files in the cache, and their commit, without network; None unless `fetch` got all of them."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        readme = try_to_load_from_cache(name, README, repo_type="dataset", revision=revision)
        patterns = _patterns(readme, config, split) if isinstance(readme, str) else [f"*{split}*"]
        kept = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    folder = Path(kept)
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.suffix.lower() in DATA_FILES)
    files = [str(folder / file) for file in there if any(fnmatch(file, pattern) for pattern in patterns)]
    return (files, folder.name) if files else None


def _patterns(readme: str, config: str | None, split: str) -> list[str]:
    """Return the file patterns of a split from a dataset's README.md; [] if it gives none."""
    from huggingface_hub.repocard import metadata_load

    configs: list[dict[str, Any]] = (metadata_load(readme) or {}).get("configs") or []
    named = [each for each in configs if each.get("config_name") == (config or "default")]
    chosen = named or ([each for each in configs if each.get("default")] or configs[:1] if config is None else [])
    files = chosen[0].get("data_files") if chosen else None
    paths = [each["path"] for each in files or [] if isinstance(each, dict) and each.get("split") == split]
    return [path for each in paths for path in (each if isinstance(each, list) else [each])]


def _size(count: int) -> str:
    """Return a number of bytes as text in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"
