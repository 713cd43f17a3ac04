"""Entries as Parquet: packs, whose row groups are segments.

A pack is an ordinary Parquet file that DuckDB or pandas can read. What can't be read back as it was written becomes an
`IntegrityError`; the SHA-256 of the stored bytes is checked by whoever fetches them, not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.columns import SCHEMA
from dataset_tasks.manifest.sources import PACK_SCHEMA, Sources, join, split, stored_columns

HINT_DAMAGED = (
    "`dataset-tasks repair` heals it where the same bytes are still somewhere; else restore the object from a backup of the "
    "store. `dataset-tasks check` lists what else is damaged."
)

_ENCODINGS = {
    "path": "DELTA_BYTE_ARRAY",
    "size": "DELTA_BINARY_PACKED",
    "hash": "PLAIN",
    "source": "DELTA_BINARY_PACKED",
    "offset": "DELTA_BINARY_PACKED",
    "stored": "DELTA_BINARY_PACKED",
}
_DICTIONARIES = [name for name in PACK_SCHEMA.names if name not in _ENCODINGS]


class PackEncoder:
    """Writes tables of entries into one Parquet file in memory, each as a row group of its own."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            PACK_SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=_DICTIONARIES,
            column_encoding=_ENCODINGS,
            write_statistics=False,
            store_schema=False,
            write_page_checksum=True,
        )
        self.groups = 0

    def add(self, table: pa.Table) -> tuple[int, Sources]:
        """Appends a row group; gives its number in the file and the sources of its rows, which the file does not hold."""
        rows, sources = split(table)
        self._writer.write_table(rows, row_group_size=max(len(rows), 1))
        self.groups += 1
        return self.groups - 1, sources

    def finish(self) -> memoryview:
        """Closes the file; the encoder is of no use afterwards."""
        self._writer.close()
        return memoryview(self._sink.getvalue()).cast("B")  # not copied: it may be 50 MB


class PackDecoder:
    """Reads row groups of a pack.

    Args:
        source: The file; only the parts asked for are read.
        name: How messages call the pack: its key.
        footer: The pack's footer, if it was read before.

    Raises:
        IntegrityError: It is not a Parquet file with the columns of `PACK_SCHEMA`, or of `SCHEMA` as in layout 1.
    """

    def __init__(self, source: pa.NativeFile, name: str, footer: pq.FileMetaData | None = None) -> None:
        self.name = name
        with damaged(f"pack {name!r}"):
            self._file = pq.ParquetFile(
                source,
                metadata=footer,
                # The bytes are in memory. Buffering ahead would read a Python file in an I/O thread of Arrow's, and a
                # program that ends while such a thread still wants the interpreter is aborted: one short one in ten.
                pre_buffer=False,
                page_checksum_verification=True,
            )
            self.footer: pq.FileMetaData = self._file.metadata
            schema = self._file.schema_arrow
        self._is_first_layout = schema.equals(SCHEMA)
        if not self._is_first_layout and not schema.equals(PACK_SCHEMA):
            raise IntegrityError(
                f"pack {name!r} has the columns {_signature(schema)}, expected {_signature(PACK_SCHEMA)}",
                hint=HINT_DAMAGED,
            )

    def group_count(self) -> int:
        """How many row groups the pack has."""
        count: int = self.footer.num_row_groups
        return count

    def group_rows(self, group: int) -> int:
        """How many rows a row group has."""
        count: int = self.footer.row_group(group).num_rows
        return count

    def group_span(self, group: int) -> tuple[int, int]:
        """Where a row group lies in the file, as start and end in bytes."""
        with damaged(f"pack {self.name!r}"):
            described = self.footer.row_group(group)
            columns = [described.column(position) for position in range(described.num_columns)]
        starts = [
            min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset) for column in columns
        ]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        return min(starts), max(ends)

    def read(self, group: int, columns: Sequence[str], sources: Sources) -> pa.Table:
        """Rows of a row group with some columns of a manifest, in the schema's order.

        Args:
            group: Its number.
            columns: Their names.
            sources: What `PackEncoder.add` gave for it; not looked at in a pack of layout 1.

        Raises:
            IntegrityError: They can't be decoded.
        """
        with damaged(f"pack {self.name!r}"):
            wanted = list(columns) if self._is_first_layout else stored_columns(columns)
            table = self._file.read_row_group(group, columns=wanted, use_threads=False)
            table.validate(full=True)
            return table if wanted == list(columns) else join(table, sources, columns)


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turns what pyarrow raises on bytes it can't decode into an `IntegrityError` about `what`."""
    try:
        yield
    # pyarrow raises OSError on broken pages, ValueError on broken values, IndexError on a row group that is not there.
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise IntegrityError(f"{what} can't be decoded: {error}", hint=HINT_DAMAGED) from error


def _signature(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}{'' if field.nullable else ' required'}" for field in schema)
