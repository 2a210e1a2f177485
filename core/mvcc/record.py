"""The values of the store: records, events, and the bytes they are on the wire.

A record is one key at one revision; it carries its serialised ``mvccpb.KeyValue``, which is spliced into
responses as it is. A record with version 0 is a tombstone: the key was deleted at that revision. An event
is a change: the new record and the live one it replaced. A tuple of events is a *delta*: what one entry of
the log does to the store, to the leases and to the watchers.

The wire form of a record that is on disk may be dropped from memory; the store knows how to get it back
(``Store.data_of``). Nothing else of a record ever changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec.structs import force_setattr

from ..wire.proto import kv_pb2
from ..wire.varint import encode_varint

__all__ = [
    "Delta", "Event", "Record", "drop_data", "encode_event", "make_record", "make_tombstone", "restore_data",
    "share_key", "value_of", "without_value",
]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key at one revision. ``version`` 0 is a deletion, then ``data`` has key and mod_revision only."""

    key: bytes
    create_revision: int
    mod_revision: int
    sub: int  # place within its revision, from 0: a transaction writes several records
    version: int
    lease: int  # 0: none
    data: bytes | None = None  # serialised mvccpb.KeyValue; None: on disk only, see ``Store.data_of``


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change. ``previous`` is the live record it replaced, None for a new key."""

    record: Record
    previous: Record | None


#: What one applied entry changes, in order of ``sub``; all of one revision. Empty: nothing changed.
Delta: TypeAlias = tuple[Event, ...]


def make_record(
    key: bytes, create_revision: int, mod_revision: int, sub: int, version: int, value: bytes, lease: int
) -> Record:
    """Build a live record with its wire form, field by field as protobuf would write it.

    Args:
        key: not empty.
        version: >= 1.
        lease: a signed 64-bit id; 0 means none.
    """
    mod = encode_varint(mod_revision)
    create = mod if create_revision == mod_revision else encode_varint(create_revision)
    data = b"".join((
        b"\n", encode_varint(len(key)), key, b"\x10", create, b"\x18", mod, b"\x20", encode_varint(version),
        b"\x2a" + encode_varint(len(value)) + value if value else b"",
        b"\x30" + encode_varint(lease & 0xFFFFFFFFFFFFFFFF) if lease else b"",
    ))
    return Record(key, create_revision, mod_revision, sub, version, lease, data)


def make_tombstone(key: bytes, mod_revision: int, sub: int) -> Record:
    """Build the record of a deletion."""
    data = b"".join((b"\n", encode_varint(len(key)), key, b"\x18", encode_varint(mod_revision)))
    return Record(key, 0, mod_revision, sub, 0, 0, data)


def drop_data(record: Record) -> None:
    """Forget the wire form of a record that can be read back."""
    force_setattr(record, "data", None)


def restore_data(record: Record, data: bytes) -> None:
    """Give a record the wire form that it had."""
    force_setattr(record, "data", data)


def share_key(record: Record, key: bytes) -> None:
    """Give a record an equal key that is in memory already."""
    force_setattr(record, "key", key)


def value_of(data: bytes) -> bytes:
    """The value in a record's wire form; empty for a tombstone."""
    return kv_pb2.KeyValue.FromString(data).value


def without_value(record: Record) -> bytes:
    """The record's wire form with the value left out, for keys-only answers."""
    bare = make_record(
        record.key, record.create_revision, record.mod_revision, 0, record.version, b"", record.lease
    )
    assert bare.data is not None
    return bare.data


def encode_event(event: Event, *, prev_kv: bool, data_of: Callable[[Record], bytes]) -> bytes:
    """Serialise as ``mvccpb.Event``; ``prev_kv`` adds the record replaced, if there was one.

    Args:
        data_of: the store's, for what is not in memory.
    """
    record = event.record
    data = record.data
    if data is None:
        data = data_of(record)
    head = b"\x12" if record.version else b"\x08\x01\x12"
    if prev_kv and event.previous is not None:
        previous = data_of(event.previous)
        tail = (b"\x1a", encode_varint(len(previous)), previous)
        return b"".join((head, encode_varint(len(data)), data, *tail))
    return b"".join((head, encode_varint(len(data)), data))
