"""The store against a naive twin that keeps a copy of everything at every revision."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.mvcc.hashing import hash_history
from tercet.core.mvcc.ranges import range_end_of
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

KEYS = st.sampled_from([b"a", b"ab", b"abc", b"b", b"ba", b"c", b"\x00", b"\xff", b"a\xff"])
ENDS = st.sampled_from([b"", b"", b"\x00", b"b", b"c", b"ac", b"a", b"\xff", b"\x00\x00"])
VALUES = st.sampled_from([b"", b"x", b"y", b"zz"])


class Row(NamedTuple):
    key: bytes
    create: int
    mod: int
    version: int
    value: bytes


class Twin:
    """The obvious implementation: ``states[r]`` is the whole content at revision r."""

    def __init__(self) -> None:
        self.states: dict[int, dict[bytes, Row]] = {1: {}}
        self.changes: dict[int, list[tuple[bytes, bool]]] = {}
        self.revision = 1
        self.compacted = -1

    def write(self, puts: list[tuple[bytes, bytes]], deletes: list[tuple[bytes, bytes]]) -> None:
        """Deletions first, then puts, all in one revision; nothing when nothing changes."""
        state = dict(self.states[self.revision])
        revision = self.revision + 1
        changed: list[tuple[bytes, bool]] = []
        for start, end in deletes:
            for key in sorted(key for key in state if inside(key, start, end)):
                del state[key]
                changed.append((key, False))
        for key, value in puts:
            old = state.get(key)
            state[key] = Row(
                key, old.create if old else revision, revision, old.version + 1 if old else 1, value
            )
            changed.append((key, True))
        if changed:
            self.revision = revision
            self.states[revision] = state
            self.changes[revision] = changed

    def rows(self, start: bytes, end: bytes, revision: int) -> list[Row]:
        if revision > self.revision:
            raise rpc_errors.FUTURE_REVISION.with_traceback(None)
        if revision <= 0:
            revision = self.revision
        if revision < self.compacted:
            raise rpc_errors.COMPACTED.with_traceback(None)
        state = self.states[revision]
        return [state[key] for key in sorted(state) if inside(key, start, end)]


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return start <= key and (end == b"\x00" or key < end)


class StoreAgainstTwin(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.twin = Twin()

    def apply(self, kind: Command, request: Message) -> object:
        data = encode_command(kind, 1, 1, request.SerializeToString())
        return self.machine.apply(Entry(1, self.machine.applied_index + 1, data)).error

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        assert self.apply(Command.PUT, rpc.PutRequest(key=key, value=value)) is None
        self.twin.write([(key, value)], [])

    @rule(key=KEYS, end=ENDS)
    def delete(self, key: bytes, end: bytes) -> None:
        request = rpc.DeleteRangeRequest(key=key, range_end=end)
        data = encode_command(Command.DELETE_RANGE, 1, 1, request.SerializeToString())
        self.machine.apply(Entry(1, self.machine.applied_index + 1, data))
        self.twin.write([], [(key, end)])

    @rule(
        puts=st.lists(st.tuples(KEYS, VALUES), max_size=3, unique_by=lambda put: put[0]),
        deletes=st.lists(st.tuples(KEYS, ENDS), max_size=2),
    )
    def transact(self, puts: list[tuple[bytes, bytes]], deletes: list[tuple[bytes, bytes]]) -> None:
        operations = [
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))
            for key, end in deletes
        ]
        operations += [
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value)) for key, value in puts
        ]
        assert self.apply(Command.TXN, rpc.TxnRequest(success=operations)) is None
        self.twin.write(puts, deletes)

    @rule(back=st.integers(-1, 6), physical=st.booleans())
    def compact(self, back: int, physical: bool) -> None:
        revision = self.twin.revision - back
        error = self.apply(Command.COMPACTION, rpc.CompactionRequest(revision=revision, physical=physical))
        if revision <= self.twin.compacted:
            assert error == rpc_errors.COMPACTED
        elif revision > self.twin.revision:
            assert error == rpc_errors.FUTURE_REVISION
        else:
            assert error is None
            self.twin.compacted = revision

    @rule()
    def restore(self) -> None:
        before = self.machine.digest()
        self.machine = Machine.restore(self.machine.snapshot())
        assert self.machine.digest() == before

    @rule(key=KEYS, end=ENDS, back=st.integers(-1, 8), limit=st.integers(0, 3), descending=st.booleans())
    def read(self, key: bytes, end: bytes, back: int, limit: int, descending: bool) -> None:
        revision = self.twin.revision - back if back else 0
        request = rpc.RangeRequest(key=key, range_end=end, revision=revision, limit=limit)
        if descending:
            request.sort_order = rpc.RangeRequest.DESCEND
        try:
            rows = self.twin.rows(key, end, revision)
        except RpcError as expected:
            with pytest.raises(RpcError) as caught:
                self.machine.range(request)
            assert caught.value == expected
            return
        header_revision, body = self.machine.range(request)
        response = rpc.RangeResponse.FromString(body)
        assert header_revision == self.twin.revision
        assert response.count == len(rows)
        assert response.more == (0 < limit < len(rows))
        shown = rows[::-1] if descending else rows
        assert shown[: limit or None] == [
            Row(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value) for kv in response.kvs
        ]

    @rule(key=KEYS, end=ENDS, back=st.integers(0, 8), limit=st.integers(1, 4))
    def watch_the_past(self, key: bytes, end: bytes, back: int, limit: int) -> None:
        start = max(self.twin.revision - back, self.twin.compacted, 1)
        found, revision = [], start
        while revision <= self.twin.revision:
            events, after = self.machine.store.events_since(revision, key, range_end_of(key, end), limit)
            assert after > revision
            found += [(e.record.mod_revision, e.record.key, bool(e.record.version)) for e in events]
            revision = after
        assert found == [
            (revision, changed, is_put)
            for revision in range(start, self.twin.revision + 1)
            for changed, is_put in self.twin.changes.get(revision, [])
            if inside(changed, key, end)
        ]

    @rule(back=st.integers(0, 5))
    def hash_survives_a_restore(self, back: int) -> None:
        revision = max(self.twin.revision - back, self.twin.compacted, 1)
        again = Machine.restore(self.machine.snapshot())
        assert hash_history(again.store, revision) == hash_history(self.machine.store, revision)

    @invariant()
    def the_newest_revision_and_the_keys_agree(self) -> None:
        assert self.machine.revision == self.twin.revision
        assert self.machine.store.live_count() == len(self.twin.states[self.twin.revision])


StoreAgainstTwin.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStoreAgainstTwin = StoreAgainstTwin.TestCase
