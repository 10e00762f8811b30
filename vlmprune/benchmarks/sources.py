"""Sources of a benchmark's data: the hub, or a folder, a parquet or text file, or a saved dataset on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from yaml import YAMLError

from vlmprune.benchmarks.hashing import content_identity
from vlmprune.benchmarks.hub_files import fetch, fetched
from vlmprune.benchmarks.row_files import TEXT_FILES, read_rows
from vlmprune.benchmarks.saved import open_saved
from vlmprune.benchmarks.tables import InPlace, Listed, Prepared, Table
from vlmprune.errors import FAULTS, UserError, nearest, said
from vlmprune.files import expanded

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
        path = expanded("benchmark.path", self.path)
        if path.is_dir():
            return path
        return path.parent if path.exists() else None

    def open(self, streaming: bool) -> tuple[Table, str]:
        """Return the rows, and their identity: the hub's commit or a content hash. Raises UserError.

        streaming: read parquet files of a hub dataset in place; local ones always are.
        """
        path = expanded("benchmark.path", self.path)
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
            return Prepared(open_saved(path, self.path)), content_identity(path.glob("*.arrow"))
        builder = self._builder(str(path), None)
        files = self._files(builder)
        identity = content_identity(map(Path, files))
        if _is_readable(files):
            return self._read(files), identity
        return Prepared(_prepare(self._builder(str(path), None, files), self.split, self.path, fresh=True)), identity

    def _hub(self, streaming: bool) -> tuple[Table, str]:
        reasons = []
        for name in (self.path, self.fallback):
            if not name:
                continue
            try:
                builder = self._builder(name, self.revision)
            except UserError as error:
                if kept := fetched(name, self.config, self.split, self.revision):
                    return self._read(kept[0]), f"commit:{kept[1]}"
                reasons.append(str(error))
                continue
            return self._of_hub(name, builder, streaming)
        raise UserError(f"benchmark data cannot be loaded ({'; '.join(reasons)}). {HELP}")

    def _of_hub(self, name: str, builder: Any, streaming: bool) -> tuple[Table, str]:
        """Return the rows of a hub dataset's split, and its commit; only the split's files are downloaded."""
        commit = builder.hash
        if not builder.config.data_files:  # a copy that `datasets` prepared earlier, found without network
            return Prepared(_prepare(builder, self.split, name, fresh=False)), f"commit:{commit}"
        files = self._files(builder)
        if not _is_readable(files):
            builder = self._builder(name, self.revision, files)
            return Prepared(_prepare(builder, self.split, name, fresh=False)), f"commit:{commit}"
        if not (streaming and _is_parquet(files)):
            try:
                files, commit = fetch(files, self.split, self.revision) or (files, commit)
            except OSError as error:
                raise UserError(f"benchmark data cannot be loaded ({name}: {said(error)}). {HELP}") from error
        return self._read(files), f"commit:{commit}"

    def _builder(self, name: str, revision: str | None, files: list[str] | None = None) -> Any:
        """Return the builder of `datasets` for the whole dataset, or only for the split's `files`. Raises UserError."""
        import datasets

        only = None if files is None else {self.split: files}
        try:
            return datasets.load_dataset_builder(name, self.config, revision=revision, data_files=only)
        except BROKEN as error:
            kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
            raise UserError(f"{name}: {kind}{said(error)}") from error

    def _files(self, builder: Any) -> list[str]:
        """Return the split's data files: local paths, or hf:// addresses that name the commit."""
        splits = {str(split): list(files) for split, files in builder.config.data_files.items()}
        return [str(file) for file in splits[_choose(self.split, list(splits), self.path)]]

    def _read(self, files: list[str]) -> Table:
        """Return the rows of files that are all parquet, or all text. Raises UserError."""
        import pyarrow

        if not _is_parquet(files):
            return Listed([row for file in files for row in read_rows(Path(file))])
        try:
            return InPlace(files)
        except (OSError, *FAULTS, pyarrow.ArrowException) as error:
            raise UserError(f"benchmark.path={self.path}: not readable as parquet ({said(error)})") from error


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
        raise UserError(f"benchmark data cannot be loaded ({name}: {said(error)}). {HELP}") from error


def _choose(split: str, there: list[str], path: str) -> str:
    if split not in there:
        raise UserError(
            f"benchmark.split={split}: not in {path}{nearest(split, there)}; there are: {', '.join(sorted(there))}"
        )
    return split
