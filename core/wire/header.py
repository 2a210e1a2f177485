"""The header that stands in front of every etcd response, spliced in without decoding the rest.

Every response message carries ``ResponseHeader header = 1``. A protobuf message is a sequence of fields, so
the state machine serialises its answer without the header, and the member that serves it puts the header's
bytes in front: two byte strings joined, nothing decoded. Only revision and term ever change.
"""

from __future__ import annotations

from .varint import encode_varint

__all__ = ["HeaderPrefix", "response_header"]

_CLUSTER, _MEMBER, _REVISION, _TERM = b"\x08", b"\x10", b"\x18", b"\x20"


def _ids(cluster_id: int, member_id: int) -> bytes:
    cluster = _CLUSTER + encode_varint(cluster_id) if cluster_id else b""
    member = _MEMBER + encode_varint(member_id) if member_id else b""
    return cluster + member


def _header(ids: bytes, revision: int, raft_term: int) -> bytes:
    body = ids
    if revision:
        body += _REVISION + encode_varint(revision)
    if raft_term:
        body += _TERM + encode_varint(raft_term)
    return b"\x0a" + encode_varint(len(body)) + body


def response_header(cluster_id: int, member_id: int, revision: int, raft_term: int) -> bytes:
    """Encode field 1 of a response: tag, length and the ``ResponseHeader`` message.

    Args:
        cluster_id: unsigned 64-bit; 0 is left out, as proto3 does with every zero.
        member_id: unsigned 64-bit.
        revision: signed 64-bit (0 and -1 occur: no revision, the compacted answer).
        raft_term: unsigned 64-bit.
    """
    return _header(_ids(cluster_id, member_id), revision, raft_term)


class HeaderPrefix:
    """Headers of one member: the ids are encoded once, and the last header is kept.

    A burst of reads, or all answers of one revision, cost two comparisons each.
    """

    __slots__ = ("_ids", "_last", "_revision", "_tail", "_term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._ids = _ids(cluster_id, member_id)
        self._revision = self._term = 0
        self._tail = b""  # the term's field
        self._last = _header(self._ids, 0, 0)

    def encode(self, revision: int, raft_term: int) -> bytes:
        """The same bytes as ``response_header`` with this member's ids."""
        if revision != self._revision or raft_term != self._term:
            if raft_term != self._term:
                self._tail = _TERM + encode_varint(raft_term) if raft_term else b""
                self._term = raft_term
            self._revision = revision
            field = _REVISION + encode_varint(revision) if revision else b""
            ids, tail = self._ids, self._tail
            self._last = b"\x0a%c%b%b%b" % (len(ids) + len(field) + len(tail), ids, field, tail)
        return self._last
