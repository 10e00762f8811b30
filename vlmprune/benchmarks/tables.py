"""Tables of a split's rows: text columns are read at once, media cells one by one on demand."""

from __future__ import annotations

import dataclasses
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Protocol

from vlmprune.errors import FAULTS, UserError, error_text

if TYPE_CHECKING:
    import datasets

ROW_GROUP_CACHE_BYTES = 2**28  # bytes of row groups kept in memory


class Table(Protocol):
    """Interface of the rows of one split. Media cells are given as stored: encoded bytes, a path, or a list of such."""

    columns: list[str]

    def __len__(self) -> int: ...

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yield all rows in order, with these columns alone."""
        ...

    def cell(self, index: int, column: str) -> Any:
        """Return one cell of row `index`."""
        ...

    def column(self, name: str) -> Iterator[Any]:
        """Yield all cells of a column in order, each read on demand."""
        ...


@contextmanager
def arrow_errors(what: str) -> Iterator[None]:
    """Raise UserError for a page, text or date that Arrow finds damaged inside the block. what: name for the error."""
    import pyarrow

    try:
        yield
    except (OSError, *FAULTS, pyarrow.ArrowException) as error:
        raise UserError(f"{what} cannot be read ({error_text(error) or type(error).__name__})") from error


class MemoryTable:
    """Rows in memory, such as those of a JSON-lines file. A key that some rows lack is None there."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.columns = list(dict.fromkeys(name for row in rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            yield {name: row.get(name) for name in columns}

    def cell(self, index: int, column: str) -> Any:
        return self._rows[index].get(column)

    def column(self, name: str) -> Iterator[Any]:
        return (row.get(name) for row in self._rows)


class ConcatenatedTable:
    """Several tables of the same columns as one, with the name of each row's table in the column `table`."""

    def __init__(self, tables: dict[str, Table]) -> None:
        self._tables = tables
        self._starts = [0, *accumulate(map(len, tables.values()))]
        self.columns = [*dict.fromkeys(name for table in tables.values() for name in table.columns), "table"]

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for name, table in self._tables.items():
            for row in table.rows([column for column in columns if column in table.columns]):
                yield row | {"table": name}

    def cell(self, index: int, column: str) -> Any:
        number = bisect_right(self._starts, index) - 1
        return list(self._tables.values())[number].cell(index - self._starts[number], column)

    def column(self, name: str) -> Iterator[Any]:
        return chain.from_iterable(table.column(name) for table in self._tables.values())


class ArrowTable:
    """Rows of a `datasets` Dataset: memory-mapped Arrow, of a downloaded hub dataset or of save_to_disk."""

    def __init__(self, dataset: datasets.Dataset) -> None:
        import datasets as hf_datasets

        for name, feature in dataset.features.items():
            inner: Any = getattr(feature, "feature", None)
            if hasattr(feature, "decode"):  # pictures, videos, sounds
                dataset = dataset.cast_column(name, dataclasses.replace(feature, decode=False))
            elif hasattr(inner, "decode"):
                dataset = dataset.cast_column(name, hf_datasets.List(dataclasses.replace(inner, decode=False)))
        self._dataset = dataset
        self._columns = {name: dataset.select_columns([name]) for name in dataset.column_names}
        self.columns = list(dataset.column_names)

    def __len__(self) -> int:
        return len(self._dataset)

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        chosen = iter(self._dataset.select_columns(columns))
        for index in range(len(self)):
            with arrow_errors(f"row {index} of the dataset, columns {', '.join(columns)},"):
                row = next(chosen)
            yield row

    def cell(self, index: int, column: str) -> Any:
        with arrow_errors(f"row {index} of the dataset, column {column},"):
            return self._columns[column][index][column]

    def column(self, name: str) -> Iterator[Any]:
        return (self.cell(index, name) for index in range(len(self)))


class ParquetTable:
    """Parquet files read in place, on disk or on the hub: no copy, no conversion, a row group at a time.

    For a subset of a large hub dataset this reads the text columns and the row groups that hold the chosen rows.
    """

    def __init__(self, files: list[str]) -> None:
        import fsspec
        import pyarrow.parquet as pq

        self._lock = threading.Lock()  # a parquet reader is one stream, and several threads read images
        self._names = files
        self._files = [pq.ParquetFile(fsspec.open(file, "rb").open()) for file in files]
        self.columns = list(self._files[0].schema_arrow.names)
        groups = [
            (number, group, file.metadata.row_group(group).num_rows)
            for number, file in enumerate(self._files)
            for group in range(file.metadata.num_row_groups)
        ]
        self._groups = [(number, group) for number, group, _ in groups]
        self._starts = [0, *accumulate(rows for *_, rows in groups)]
        self._held: dict[tuple[str, int], Any] = {}  # (column, row group) -> cells; the last used one is last

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for name, file in zip(self._names, self._files, strict=True):
            with self._lock, arrow_errors(f"{name}, columns {', '.join(columns)},"):
                batches = list(file.iter_batches(columns=columns))
            for batch in batches:
                cells = {}
                for column in batch.column_names:
                    with arrow_errors(f"{name}, column {column},"):
                        cells[column] = batch[column].to_pylist()
                yield from ({column: cells[column][index] for column in cells} for index in range(len(batch)))

    def cell(self, index: int, column: str) -> Any:
        number = bisect_right(self._starts, index) - 1
        with self._lock, arrow_errors(f"{self._names[self._groups[number][0]]}, row {index}, column {column},"):
            return self._row_group(number, column)[index - self._starts[number]].as_py()

    def column(self, name: str) -> Iterator[Any]:
        return (self.cell(index, name) for index in range(len(self)))

    def _row_group(self, number: int, column: str) -> Any:
        """Return a column of one row group. Several stay in memory: rows about one image may be far apart (POPE)."""
        key = column, number
        if key in self._held:
            self._held[key] = self._held.pop(key)  # now the last used one
            return self._held[key]
        file, group = self._groups[number]
        self._held[key] = self._files[file].read_row_group(group, columns=[column])[column]
        while sum(cells.nbytes for cells in self._held.values()) > ROW_GROUP_CACHE_BYTES:
            if len(self._held) == len({column for column, _ in self._held}):
                break  # one row group of each column always stays
            del self._held[next(iter(self._held))]
        return self._held[key]
