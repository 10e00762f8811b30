"""Sources of a benchmark's data: the hub, or a folder, a parquet file or a saved dataset on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired
from zipfile import BadZipFile

from pydantic import Field, with_config
from tqdm.auto import tqdm
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12
from yaml import YAMLError

from vlmprune.benchmarks.row_files import TEXT_FILES, read_rows
from vlmprune.benchmarks.tables import ArrowTable, MemoryTable, ParquetTable, Table
from vlmprune.errors import FAULTS, UserError, error_text, nearest
from vlmprune.files import check_regular, expand_path
from vlmprune.hashing import content_identity
from vlmprune.terminal import say
from vlmprune.typed_json import STRICT, read_json

if TYPE_CHECKING:
    import datasets


@with_config(STRICT)
class DataFile(TypedDict):
    """Arrow file by its name in the folder; the identity of the data covers no file of another folder."""

    filename: Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]


@with_config(STRICT)
class State(TypedDict):
    """Schema of state.json."""

    _data_files: Annotated[list[DataFile], Field(min_length=1)]
    _fingerprint: NotRequired[str | None]
    _format_columns: NotRequired[list[str] | None]
    _format_kwargs: NotRequired[dict[str, Any]]
    _format_type: NotRequired[str | None]
    _output_all_columns: NotRequired[bool]
    _split: NotRequired[str | None]


@with_config(STRICT)
class Info(TypedDict):
    """Schema of the parts of dataset_info.json that decide how the Arrow files are read."""

    features: NotRequired[dict[str, Any] | None]
    splits: NotRequired[dict[str, Any] | None]
    version: NotRequired[dict[str, Any] | str | None]


def open_saved(folder: Path, path: str) -> datasets.Dataset:
    """Return the dataset in `folder`, unformatted. Raises UserError, which names the fault. path: the setting."""
    import datasets

    for name, schema in (("state.json", State), ("dataset_info.json", Info)):
        try:
            found: dict[str, Any] = read_json(folder / name, schema)  # type: ignore[arg-type]
            for entry in found.get("_data_files", []):
                check_regular(folder / entry["filename"])
        except (OSError, ValueError) as error:
            raise UserError(f"benchmark.path={path}: {name} cannot be used ({error_text(error)})") from error
    try:
        return datasets.Dataset.load_from_disk(str(folder)).with_format(None)
    except (OSError, *FAULTS) as error:
        raise UserError(
            f"benchmark.path={path}: cannot be loaded ({error_text(error) or type(error).__name__})"
        ) from error


README = "README.md"
DATA_FILES = (".parquet", *TEXT_FILES)
_ADDRESS = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<commit>[^/]+)/(?P<file>.+)")


class _HiddenBar(tqdm):
    """Hidden progress bar, for a dry run that downloads nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


def download_files(files: list[str], split: str, revision: str | None) -> tuple[list[str], str] | None:
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
    # By `revision` and not by the commit, so that the cache links the two for `cached_files`. README.md has the splits.
    wanted: dict[str, Any] = {
        "repo_type": "dataset",
        "revision": revision,
        "allow_patterns": [*map(escape, inside), README],
    }
    files_there = snapshot_download(name, **wanted, dry_run=True, tqdm_class=_HiddenBar)
    missing = [entry for entry in files_there if entry.will_download]
    size = sum(entry.file_size or 0 for entry in missing)
    say(f"fetching split '{split}' of {name}: {_size(size)} in {len(missing)} files, into {HF_HUB_CACHE}")
    folder = Path(snapshot_download(name, **wanted))
    return [str(folder / each) for each in inside], folder.name


def cached_files(name: str, config: str | None, split: str, revision: str | None) -> tuple[list[str], str] | None:
    """Return a split's files in the cache, and their commit, offline; None unless `download_files` got all of them."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        readme = try_to_load_from_cache(name, README, repo_type="dataset", revision=revision)
        patterns = _split_patterns(readme, config, split) if isinstance(readme, str) else [f"*{split}*"]
        kept = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    folder = Path(kept)
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.suffix.lower() in DATA_FILES)
    files = [str(folder / file) for file in there if any(fnmatch(file, pattern) for pattern in patterns)]
    return (files, folder.name) if files else None


def _split_patterns(readme: str, config: str | None, split: str) -> list[str]:
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


MOST_ROWS = 2_000_000
# Exceptions of `datasets` and its readers for a damaged folder, README or file.
BROKEN = (OSError, EOFError, YAMLError, BadZipFile, *FAULTS)
HELP = "With network, check the hub; without, download it elsewhere and set benchmark.path=/folder"


@dataclass(frozen=True)
class Source:
    """Source of one split.

    path: a hub dataset, a folder in a hub dataset's layout or of save_to_disk, a .parquet file or one of TEXT_FILES.
    fallback: the dataset's former name on the hub. config, split, revision: as in `datasets`; a single file and a
    saved split have none.
    """

    path: str
    fallback: str | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """Return the local folder that media paths are relative to; None on the hub."""
        path = expand_path("benchmark.path", self.path)
        if path.is_dir():
            return path
        return path.parent if path.exists() else None

    def open(self, streaming: bool) -> tuple[Table, str]:
        """Return the rows, and their identity: the hub's commit or a content hash. Raises UserError.

        streaming: read parquet files of a hub dataset in place; local ones always are.
        """
        path = expand_path("benchmark.path", self.path)
        if path.exists() or self.path.startswith((".", "/", "~")):
            table, identity = self._local(path)
        else:
            table, identity = self._hub(streaming)
        if not len(table):
            raise UserError(f"benchmark.path={self.path}: split '{self.split}' is empty")
        if len(table) > MOST_ROWS:
            raise UserError(f"benchmark.path={self.path}: it has {len(table):,} rows; at most {MOST_ROWS:,} are read")
        return table, identity

    def _local(self, path: Path) -> tuple[Table, str]:
        if not path.exists():
            raise UserError(f"benchmark.path={self.path}: no such folder or file")
        if not path.is_file() and not path.is_dir():
            raise UserError(f"benchmark.path={self.path}: it is no file or folder, but a pipe, socket or device")
        if path.is_file():
            if not _is_readable([str(path)]):
                allowed = f"a folder, or a .parquet, {', '.join(TEXT_FILES[:-1])} or {TEXT_FILES[-1]} file"
                raise UserError(f"benchmark.path={self.path}: allowed: {allowed}")
            return self._read([str(path)]), content_identity([path])
        if (path / "dataset_dict.json").exists():
            path = path / _choose(self.split, [entry.name for entry in path.iterdir() if entry.is_dir()], self.path)
        if (path / "state.json").exists():
            return ArrowTable(open_saved(path, self.path)), content_identity(path.glob("*.arrow"))
        builder = self._builder(str(path), None)
        files = self._files(builder)
        identity = content_identity(map(Path, files))
        if _is_readable(files):
            return self._read(files), identity
        return ArrowTable(_prepare(self._builder(str(path), None, files), self.split, self.path, fresh=True)), identity

    def _hub(self, streaming: bool) -> tuple[Table, str]:
        reasons = []
        for name in (self.path, self.fallback):
            if not name:
                continue
            try:
                builder = self._builder(name, self.revision)
            except UserError as error:
                if kept := cached_files(name, self.config, self.split, self.revision):
                    return self._read(kept[0]), f"commit:{kept[1]}"
                reasons.append(str(error))
                continue
            return self._of_hub(name, builder, streaming)
        raise UserError(f"benchmark data cannot be loaded ({'; '.join(reasons)}). {HELP}")

    def _of_hub(self, name: str, builder: Any, streaming: bool) -> tuple[Table, str]:
        """Return the rows of a hub dataset's split, and its commit; only the split's files are downloaded."""
        commit = builder.hash
        if not builder.config.data_files:  # a copy that `datasets` prepared earlier, found without network
            return ArrowTable(_prepare(builder, self.split, name, fresh=False)), f"commit:{commit}"
        files = self._files(builder)
        if not _is_readable(files):
            builder = self._builder(name, self.revision, files)
            return ArrowTable(_prepare(builder, self.split, name, fresh=False)), f"commit:{commit}"
        if not (streaming and _is_parquet(files)):
            try:
                files, commit = download_files(files, self.split, self.revision) or (files, commit)
            except OSError as error:
                raise UserError(f"benchmark data cannot be loaded ({name}: {error_text(error)}). {HELP}") from error
        return self._read(files), f"commit:{commit}"

    def _builder(self, name: str, revision: str | None, files: list[str] | None = None) -> Any:
        """Return the builder of `datasets` for the whole dataset, or only for the split's `files`. Raises UserError."""
        import datasets

        only = None if files is None else {self.split: files}
        try:
            return datasets.load_dataset_builder(name, self.config, revision=revision, data_files=only)
        except BROKEN as error:
            kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
            raise UserError(f"{name}: {kind}{error_text(error)}") from error

    def _files(self, builder: Any) -> list[str]:
        """Return the split's data files: local paths, or hf:// addresses that name the commit."""
        splits = {str(split): list(files) for split, files in builder.config.data_files.items()}
        return [str(file) for file in splits[_choose(self.split, list(splits), self.path)]]

    def _read(self, files: list[str]) -> Table:
        """Return the rows of files that are all parquet, or all text. Raises UserError."""
        import pyarrow

        if not _is_parquet(files):
            return MemoryTable([row for file in files for row in read_rows(Path(file))])
        try:
            return ParquetTable(files)
        except (OSError, *FAULTS, pyarrow.ArrowException) as error:
            raise UserError(f"benchmark.path={self.path}: not readable as parquet ({error_text(error)})") from error


def _is_parquet(files: list[str]) -> bool:
    return all(file.lower().endswith(".parquet") for file in files)


def _is_readable(files: list[str]) -> bool:
    """Return True if files are read directly, without a copy made by `datasets`."""
    return _is_parquet(files) or all(file.lower().endswith(TEXT_FILES) for file in files)


def _prepare(builder: Any, split: str, name: str, fresh: bool) -> Any:
    """Download and convert a split. fresh: do it again, since `datasets` does not notice a rewritten local file."""
    import datasets

    mode = "force_redownload" if fresh else "reuse_dataset_if_exists"
    try:
        # No checks: the README counts all splits, and only one is there.
        builder.download_and_prepare(download_mode=mode, verification_mode="no_checks")
        return builder.as_dataset(split=split)
    except (datasets.exceptions.DatasetsError, *BROKEN) as error:
        raise UserError(f"benchmark data cannot be loaded ({name}: {error_text(error)}). {HELP}") from error


def _choose(split: str, there: list[str], path: str) -> str:
    if split not in there:
        raise UserError(
            f"benchmark.split={split}: not in {path}{nearest(split, there)}; there are: {', '.join(sorted(there))}"
        )
    return split
