"""The store's own duties: compaction in steps, the past for watchers, hashes, the index of watchers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.mvcc.draft import Draft
from tercet.core.mvcc.hashing import hash_history
from tercet.core.mvcc.record import Event, Record, encode_event, make_record, make_tombstone, value_of
from tercet.core.mvcc.steps import PAGE_KEYS, finish
from tercet.core.mvcc.store import Store
from tercet.core.mvcc.watch_index import WatchIndex
from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.varint import encode_varint


def put(store: Store, *keys: bytes, value: bytes = b"v") -> None:
    draft = Draft(store)
    for key in keys:
        draft.put(key, value, 0)
    store.advance(draft.delta())


def delete(store: Store, key: bytes) -> None:
    draft = Draft(store)
    finish(draft.delete_range(key, key + b"\0"))
    store.advance(draft.delta())


def compact(store: Store, revision: int) -> None:
    store.compact(revision)
    while not store.scrub(10):
        pass


@given(
    st.binary(min_size=1, max_size=300), st.integers(1, 2**62), st.integers(1, 2**62), st.integers(1, 2**62),
    st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1),
)
def test_records_are_the_bytes_that_protobuf_would_write(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    message = kv_pb2.KeyValue(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    )
    record = make_record(key, create, mod, 0, version, value, lease)
    assert record.data == message.SerializeToString()
    assert record.data is not None and value_of(record.data) == value


@given(st.integers(0, 2**63 - 1))
def test_varints_are_those_of_protobuf(number: int) -> None:
    encoded = kv_pb2.KeyValue(version=number).SerializeToString()
    assert encoded == (b"\x20" + encode_varint(number) if number else b"")


def test_a_key_with_a_long_history_is_scrubbed_in_bounded_steps() -> None:
    store = Store()
    for _ in range(5_000):
        put(store, b"hot")
    store.take_fresh()
    store.compact(5_001)
    steps, largest, done = 0, 0, False
    while not done:
        done = store.scrub(500)
        largest = max(largest, len(store.take_fresh()[1]))
        steps += 1
    assert largest <= 1_500 and steps > 3
    assert [record.mod_revision for record in store.records()] == [5_001]
    assert not store.holds(b"hot", 5_000, 0) and store.holds(b"hot", 5_001, 0)


def test_events_carry_their_kind_and_what_they_replaced() -> None:
    store = Store()
    put(store, b"k", value=b"1")
    put(store, b"k", value=b"2")
    delete(store, b"k")
    _, second, third = store.events_since(2, b"k", b"l", 10)[0]
    message = kv_pb2.Event.FromString(encode_event(second, prev_kv=True, data_of=store.data_of))
    assert (message.type, message.kv.value, message.prev_kv.value) == (kv_pb2.Event.PUT, b"2", b"1")
    message = kv_pb2.Event.FromString(encode_event(third, prev_kv=False, data_of=store.data_of))
    assert message == kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=b"k", mod_revision=4))


def seen(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(event.record.mod_revision, event.record.key) for event in events]


def three_and_more() -> Store:
    """Revision 2 writes a, b and c, 3 b, 4 a and b, 5 b, 6 z."""
    store = Store()
    put(store, b"a", b"b", b"c")
    put(store, b"b")
    put(store, b"a", b"b")
    delete(store, b"b")
    put(store, b"z")
    return store


PAST = [(2, b"a"), (2, b"b"), (2, b"c"), (3, b"b"), (4, b"a"), (4, b"b"), (5, b"b"), (6, b"z")]


@pytest.mark.parametrize(("limit", "ends"), [
    (0, [3, 4, 5, 6, 7]), (1, [3, 4, 5, 6, 7]), (3, [3, 5, 7]), (4, [4, 7]), (5, [5, 7]), (7, [6, 7]),
    (8, [7]), (99, [7]),
])  # fmt: skip
def test_the_past_comes_in_whole_revisions_until_the_limit_is_reached(limit: int, ends: list[int]) -> None:
    store, revision = three_and_more(), 2
    for end in ends:
        events, after = store.events_since(revision, b"", None, limit)
        assert (seen(events), after) == ([row for row in PAST if revision <= row[0] < end], end)
        revision = after
    assert store.events_since(7, b"", None, limit) == ([], 7)


def test_the_limit_counts_what_is_looked_at_and_not_what_is_found() -> None:
    store = three_and_more()
    assert store.events_since(2, b"x", None, 4) == ([], 4)
    events, after = store.events_since(2, b"b", b"c", 6)
    assert (seen(events), after) == ([(2, b"b"), (3, b"b"), (4, b"b")], 5)


@pytest.mark.parametrize(("limit", "ends"), [(1, [3, 4, 5, 7]), (2, [4, 7]), (3, [5, 7]), (4, [7]), (9, [7])])
def test_the_past_of_one_key_is_its_own_history(limit: int, ends: list[int]) -> None:
    store, revision = three_and_more(), 2
    for end in ends:
        events, after = store.events_since(revision, b"b", b"b\0", limit)
        assert seen(events) == [row for row in PAST if row[1] == b"b" and revision <= row[0] < end]
        assert after == end
        revision = after
    assert store.events_since(2, b"none", b"none\0", limit) == ([], 7)


@pytest.mark.parametrize(("limit", "ends"), [(1, [3, 4, 5, 6]), (3, [3, 5, 6]), (4, [4, 6]), (99, [6])])
def test_changes_come_in_whole_revisions_up_to_the_last_wanted(limit: int, ends: list[int]) -> None:
    store, revision = three_and_more(), 2
    for end in ends:
        records, after = store.changes(revision, limit, 5)
        assert [(one.mod_revision, one.key) for one in records] == [r for r in PAST if revision <= r[0] < end]
        assert after == end
        revision = after
    assert store.changes(6, limit, 5) == ([], 6)


def test_a_revision_of_many_events_is_walked_in_steps_and_is_one_all_the_same() -> None:
    store = Store()
    keys = [b"%04d" % number for number in range(2 * PAGE_KEYS + 1)]
    put(store, *keys)
    steps = store.events_in_pages(2, b"", None, 1)
    assert sum(1 for _ in steps) == 2
    events, after = finish(store.events_in_pages(2, b"", None, 1))
    assert ([event.record.key for event in events], after) == (keys, 3)
    exactly = Store()
    put(exactly, *keys[:PAGE_KEYS])
    assert sum(1 for _ in exactly.events_in_pages(2, b"", None, 1)) == 0


def test_a_compaction_forgets_what_no_read_can_see() -> None:
    store = Store()
    for _ in range(5):
        put(store, b"hot")
    put(store, b"gone")
    delete(store, b"gone")
    put(store, b"late")
    compact(store, 9)
    assert [(r.key, r.mod_revision) for r in store.records()] == [(b"hot", 6), (b"late", 9)]


def test_a_deletion_at_the_compacted_revision_is_still_told_to_watchers() -> None:
    store = Store()
    put(store, b"k")
    delete(store, b"k")
    put(store, b"other")
    compact(store, 3)
    events, after = store.events_since(3, b"k", b"l", 10)
    assert [(e.record.mod_revision, e.record.version) for e in events] == [(3, 0)]
    assert after == 5
    compact(store, 4)
    assert b"k" not in [record.key for record in store.records()]


def test_scrubbing_in_steps_is_invisible() -> None:
    slow, fast = Store(), Store()
    for store in (slow, fast):
        for round_ in range(20):
            put(store, b"a%d" % (round_ % 3), b"b%d" % round_)
            if round_ % 4 == 0:
                delete(store, b"b%d" % round_)
        store.compact(15)
    while not fast.scrub(1000):
        pass
    steps = 0
    while True:
        assert list(slow.records()) == list(fast.records())
        assert hash_history(slow, 20) == hash_history(fast, 20)
        steps += 1
        if slow.scrub(2):
            break
    assert steps > 3


def test_a_store_loaded_from_its_records_tells_the_same_past() -> None:
    store = Store()
    put(store, b"a", b"b")
    put(store, b"a")
    delete(store, b"b")
    compact(store, 3)
    again = Store()
    again.load(store.revision, store.compacted, list(store.records()))
    everything = [
        [(e.record, e.previous) for e in s.events_since(4, b"", None, 100)[0]] for s in (store, again)
    ]
    assert everything[0] == everything[1]
    assert [r.key for r in again.select(b"", None, again.revision)] == [b"a"]


def test_a_loaded_store_still_tells_of_a_deletion_at_its_compaction() -> None:
    store = Store()
    put(store, b"k")
    delete(store, b"k")
    compact(store, 3)
    again = Store()
    again.load(store.revision, store.compacted, list(store.records()))
    events, _ = again.events_since(3, b"k", b"l", 10)
    assert [(event.record.mod_revision, event.record.version) for event in events] == [(3, 0)]
    put(again, b"k")
    latest = again.latest(b"k")
    assert latest is not None and latest.version == 1


def test_the_hash_is_etcds_number() -> None:
    """Recorded from etcd 3.4.23: an empty store, then hk=v1, hk=v2, hk2=v."""
    store = Store()
    assert hash_history(store, 1) == 1084519789
    put(store, b"hk", value=b"v1")
    put(store, b"hk", value=b"v2")
    put(store, b"hk2", value=b"v")
    assert hash_history(store, 4) == 3423197524
    assert hash_history(store, 2) == 1376810886


def test_the_hash_is_etcds_number_after_a_compaction_too() -> None:
    """Recorded from etcd 3.4.23."""
    store = Store()
    put(store, b"a", value=b"1")
    put(store, b"a", value=b"2")
    put(store, b"b", value=b"3")
    delete(store, b"b")
    assert hash_history(store, 5) == 3072576826
    compact(store, 4)
    assert hash_history(store, 5) == 1702593555
    delete(store, b"a")
    assert hash_history(store, 6) == 2988272665
    assert hash_history(store, 5) == 1702593555


def test_a_draft_changes_nothing_until_its_delta_is_applied() -> None:
    store = Store()
    put(store, b"a")
    draft = Draft(store)
    draft.put(b"b", b"1", 0)
    finish(draft.delete_range(b"a", b"b"))
    assert [r.key for r in draft.select(b"", None, draft.revision)] == [b"b"]
    assert draft.count(b"", None, draft.revision) == 1
    assert [r.key for r in draft.select(b"", None, store.revision)] == [b"a"]
    assert (store.revision, store.live_count()) == (2, 1)
    store.advance(draft.delta())
    assert [r.key for r in store.select(b"", None, store.revision)] == [b"b"]


def test_a_tombstone_has_no_value_and_no_lease() -> None:
    assert make_tombstone(b"k", 300, 2) == Record(
        b"k", 0, 300, 2, 0, 0, kv_pb2.KeyValue(key=b"k", mod_revision=300).SerializeToString()
    )


BOUNDS = st.binary(max_size=3).map(lambda raw: bytes(b"ab\xff"[byte % 3] for byte in raw))
RANGES = st.one_of(
    st.tuples(BOUNDS, st.none() | BOUNDS),
    BOUNDS.map(lambda key: (key, key + b"\0")),
    st.sampled_from([(b"a", b"b"), (b"ab", b"ac"), (b"aba", b"abb"), (b"b", b"c")]),
)


@given(st.lists(RANGES), st.lists(BOUNDS, min_size=1), st.data())
def test_the_watch_index_finds_exactly_the_ranges_that_hold_a_key(
    shapes: list[tuple[bytes, bytes | None]], keys: list[bytes], data: st.DataObject
) -> None:
    index: WatchIndex[int] = WatchIndex()
    for number, (start, end) in enumerate(shapes):
        index.add(start, end, number)
    gone = data.draw(st.sets(st.integers(0, max(0, len(shapes) - 1))))
    for number in sorted(gone):
        if number < len(shapes):
            index.remove(*shapes[number], number)
    for key in keys:
        expected = [
            number
            for number, (start, end) in enumerate(shapes)
            if number not in gone and start <= key and (end is None or key < end)
        ]
        assert sorted(index.matching(key)) == expected


def test_an_index_without_watchers_is_empty_again() -> None:
    index: WatchIndex[int] = WatchIndex()
    shapes = [(b"a", b"a\0"), (b"a", b"b"), (b"a", None), (b"a", b"bc"), (b"\xff", b"\xff\0")]
    for number, (start, end) in enumerate(shapes):
        index.add(start, end, number)
    assert sorted(index.matching(b"a")) == [0, 1, 2, 3]
    for number, (start, end) in enumerate(shapes):
        index.remove(start, end, number)
    assert not index
