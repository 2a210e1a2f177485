"""The files of a data directory as etcd's own ``snapshot restore`` makes them: either program starts on it.

Three things belong together. The database is that of the snapshot, with nobody in it: the new members are
in the log, which begins with one entry for each of them, all committed in term 1; and in a small file beside
the database, where etcd looks for them first, as the nodes of its API 2 store after these entries.

``core.etcd_wal`` tells how a log looks, and reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from struct import Struct as Layout
from typing import Any, Final

import google_crc32c
import msgspec

from .bbolt.reader import Bucket
from .etcd_schema import Entries, StoredMember
from .etcd_snapshot import Import
from .members import MemberView
from .wire.varint import encode_varint

__all__ = ["LOG_NAME", "TERM", "log_file", "restored_buckets", "store_file", "store_name"]

#: Of the entries that add the members.
TERM: Final = 1
#: The first file of a log: its number, and the first entry in it.
LOG_NAME: Final = f"{0:016x}-{0:016x}.wal"

_METADATA, _ENTRY, _STATE, _CRC, _SNAPSHOT = 1, 2, 3, 4, 5
_CONF_CHANGE, _ADD, _ADD_LEARNER = 1, 0, 3
_LENGTH = Layout("<Q")
_INDEX = Layout(">Q")
_NO_TIME = "0001-01-01T00:00:00Z"


def restored_buckets(source: Import, members: int) -> list[tuple[bytes, Entries]]:
    """The snapshot's buckets, without its members, and applied up to the entry of the last new one."""
    found: list[tuple[bytes, Entries]] = []
    for name, bucket in source.buckets():
        if name in (b"members", b"members_removed"):
            found.append((name, tuple))
        elif name == b"meta":
            meta = {key: value for key, value in bucket.items() if key in _KEPT_META}
            meta[b"consistent_index"] = _INDEX.pack(members)
            entries = sorted(meta.items())
            found.append((name, lambda entries=entries: entries))  # type: ignore[misc]
        else:
            found.append((name, _all_of(bucket)))
    return found


_KEPT_META: Final = frozenset({b"finishedCompactRev", b"scheduledCompactRev"})


def _all_of(bucket: Bucket) -> Entries:
    return bucket.items


def log_file(member_id: int, cluster_id: int, members: Sequence[MemberView]) -> bytes:
    """The log of one member.

    Args:
        member_id: Whose it is.
        cluster_id: Of the new cluster.
        members: Everybody in it, by ascending id.
    """
    last = len(members)
    log = _Log()
    log.add(_METADATA, _message({1: member_id, 2: cluster_id}))
    log.add(_SNAPSHOT, _message({1: 0, 2: 0}))
    for index, member in enumerate(members, 1):
        kind = _ADD_LEARNER if member.is_learner else _ADD
        change = _message({1: 0, 2: kind, 3: member.id, 4: _context(member)})
        log.add(_ENTRY, _message({1: _CONF_CHANGE, 2: TERM, 3: index, 4: change}))
    log.add(_STATE, _message({1: TERM, 2: members[0].id, 3: last}))
    log.add(_SNAPSHOT, _message({1: last, 2: TERM}))
    return log.data


def store_name(members: int) -> str:
    """The name of the file beside the database."""
    return f"{TERM:016x}-{members:016x}.snap"


def store_file(members: Sequence[MemberView]) -> bytes:
    """What is in it; ``members`` as in ``log_file``."""
    voters = [member.id for member in members if not member.is_learner]
    learners = [member.id for member in members if member.is_learner]
    metadata = _message({1: _message({1: voters, 2: learners}), 2: len(members), 3: TERM})
    snapshot = _message({1: json.dumps(_store(members), separators=(",", ":")).encode(), 2: metadata})
    return _message({1: google_crc32c.value(snapshot), 2: snapshot})


def _context(member: MemberView) -> bytes:
    return msgspec.json.encode(
        StoredMember(
            id=member.id, peer_urls=member.peer_urls, is_learner=member.is_learner, name=member.name
        )
    )


def _store(members: Sequence[MemberView]) -> dict[str, Any]:
    """The API 2 store once the members have been added to it, one change each."""
    nodes = {}
    for index, member in enumerate(members, 1):
        path = f"/0/members/{member.id:x}"
        leaf = _node(f"{path}/raftAttributes", index, None, _attributes(member))
        nodes[f"{member.id:x}"] = _node(path, index, {"raftAttributes": leaf})
    everybody = _node("/0/members", 1, nodes)
    root = _node("/", 0, {"0": _node("/0", 0, {"members": everybody}), "1": _node("/1", 0, {})})
    return {"Root": root, "CurrentIndex": len(members), "CurrentVersion": 2}


def _attributes(member: MemberView) -> str:
    found: dict[str, Any] = {"peerURLs": list(member.peer_urls)}
    if member.is_learner:
        found["isLearner"] = True
    return json.dumps(found, separators=(",", ":"))


def _node(path: str, index: int, children: dict[str, Any] | None, value: str = "") -> dict[str, Any]:
    """A node that was made at ``index``; one without children is a leaf."""
    return {
        "Path": path, "CreatedIndex": index, "ModifiedIndex": index, "ExpireTime": _NO_TIME, "Value": value,
        "Children": children,
    }  # fmt: skip


class _Log:
    """A log in the making: frames of records, each with the checksum over all data so far."""

    def __init__(self) -> None:
        self._total = 0
        self._frames: list[bytes] = []
        self._frame(_message({1: _CRC, 2: 0}))

    def add(self, kind: int, data: bytes) -> None:
        self._total = google_crc32c.extend(self._total, data)
        self._frame(_message({1: kind, 2: self._total, 3: data}))

    def _frame(self, record: bytes) -> None:
        padding = -len(record) % 8
        length = len(record) | ((0x80 | padding) << 56 if padding else 0)
        self._frames.append(_LENGTH.pack(length) + record + bytes(padding))

    @property
    def data(self) -> bytes:
        return b"".join(self._frames)


def _message(fields: dict[int, int | bytes | list[int]]) -> bytes:
    """A protobuf message with all its fields, also those that are zero, as etcd's own encoder writes it."""
    parts = []
    for number, value in fields.items():
        if isinstance(value, bytes):
            parts.append(encode_varint(number << 3 | 2) + encode_varint(len(value)) + value)
        else:
            for one in value if isinstance(value, list) else [value]:
                parts.append(encode_varint(number << 3) + encode_varint(one))
    return b"".join(parts)
