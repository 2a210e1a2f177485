"""Rows in memory, as a backend has them on disk."""

from __future__ import annotations

from collections.abc import Iterator

from tercet.core.mvcc.chunks import (
    DATA_BUCKET,
    INDEX_BUCKET,
    Chunk,
    chunk_key,
    encode_data,
    encode_index,
    place_of,
)

__all__ = ["Memory"]


class Memory:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes], bytes] = {}

    def get(self, bucket: str, key: bytes) -> bytes | None:
        return self.rows.get((bucket, key))

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        yield from ((key, row) for (other, key), row in sorted(self.rows.items()) if other == bucket)

    def store(self, chunk: Chunk) -> bytes:
        """Put the two rows of a chunk; their key."""
        key = chunk_key(place_of(chunk[0]))
        self.rows[INDEX_BUCKET, key] = encode_index(chunk)
        self.rows[DATA_BUCKET, key] = encode_data(chunk)
        return key
