"""The files of one split of a hub dataset, fetched into the hub's own cache: no other split is."""

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
    """In place of a bar where nothing is fetched yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


def fetch(files: list[str], split: str, revision: str | None) -> tuple[list[str], str] | None:
    """Local copies of a split's data files, and their commit; None where they are not on the hub.

    files: as `datasets` addresses them, hf://datasets/NAME@COMMIT/FILE. What is not in the cache is fetched, with bars;
    how much it is, is said before. Raises OSError where the hub cannot be reached.
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
    # Not by the commit: so that the cache knows which one `revision` is, for `fetched`. README.md names the splits.
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
    """What `fetch` left of a split's files, and their commit, without network; None unless it left all of them."""
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
    """Where a split's files are by a dataset's README.md; [] where that does not say it."""
    from huggingface_hub.repocard import metadata_load

    configs: list[dict[str, Any]] = (metadata_load(readme) or {}).get("configs") or []
    named = [each for each in configs if each.get("config_name") == (config or "default")]
    chosen = named or ([each for each in configs if each.get("default")] or configs[:1] if config is None else [])
    files = chosen[0].get("data_files") if chosen else None
    paths = [each["path"] for each in files or [] if isinstance(each, dict) and each.get("split") == split]
    return [path for each in paths for path in (each if isinstance(each, list) else [each])]


def _size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"
