"""Long reads in pages: they say what a read at once says, whatever happens between two pages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tercet.core import rpc_errors
from tercet.core.mvcc import draft as drafts
from tercet.core.mvcc import evaluate, hashing, pages, steps
from tercet.core.mvcc import store as stores
from tercet.core.mvcc.draft import Draft
from tercet.core.mvcc.hashing import hash_history, hash_in_pages
from tercet.core.mvcc.pages import answer_in_pages, range_is_long
from tercet.core.mvcc.ranges import answer_range
from tercet.core.mvcc.record import Record
from tercet.core.mvcc.steps import Steps, finish
from tercet.core.mvcc.store import Store
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.services.watcher import Watcher


def everything(**fields: Any) -> rpc.RangeRequest:
    return rpc.RangeRequest(key=b"\0", range_end=b"\0", **fields)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few keys, so that every read here takes many steps."""
    for module in (drafts, evaluate, hashing, pages, steps, stores):
        monkeypatch.setattr(module, "PAGE_KEYS", 4)
    monkeypatch.setattr(pages, "FIRST_BATCH", 3)


def change(store: Store, draw: random.Random) -> None:
    """One revision: some puts and deletions of different keys."""
    draft = Draft(store)
    for number in draw.sample(range(40), draw.randint(1, 4)):
        key = b"k%02d" % number
        record = draft.latest(key)
        if record is None or draw.random() < 0.6:
            draft.put(key, b"v" * draw.randint(0, 30), draw.choice((0, 7)))
        else:
            draft.delete(record)
    store.advance(draft.delta())


def filled(draw: random.Random, revisions: int = 60) -> Store:
    store = Store()
    for _ in range(revisions):
        change(store, draw)
    return store


def disturbed(store: Store, draw: random.Random, steps: Steps[object]) -> object:
    """Do the steps, and between them write, compact up to the newest revision, and drop what one may."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        for _ in range(3):
            change(store, draw)
        store.compact(store.revision - draw.randint(0, 1))
        store.scrub(1000)


def requests(draw: random.Random, store: Store) -> rpc.RangeRequest:
    start, end = sorted(draw.sample(range(41), 2))
    return rpc.RangeRequest(
        key=b"k%02d" % start,
        range_end=draw.choice((b"k%02d" % end, b"\0")),
        revision=draw.choice((0, 0, draw.randint(max(1, store.compacted), store.revision))),
        limit=draw.choice((0, 0, 3, 5, 11)),
        sort_order=draw.choice((rpc.RangeRequest.NONE, rpc.RangeRequest.ASCEND, rpc.RangeRequest.DESCEND)),
        sort_target=draw.randint(0, 4),  # type: ignore[arg-type]  # every target
        keys_only=draw.random() < 0.2,
        count_only=draw.random() < 0.2,
        min_mod_revision=draw.choice((0, 0, 0, 20)),
        max_create_revision=draw.choice((0, 0, 0, 40)),
    )


@pytest.mark.parametrize("seed", range(150))
def test_a_range_in_pages_is_the_range_at_its_first_step(seed: int) -> None:
    draw = random.Random(seed)
    store = filled(draw)
    if draw.random() < 0.5:
        store.compact(draw.randint(1, store.revision))
    request = requests(draw, store)
    expected = answer_range(store, request)
    parts = disturbed(store, draw, answer_in_pages(store, request))
    assert isinstance(parts, list)
    assert b"".join(parts) == expected, request


@pytest.mark.parametrize("seed", range(60))
def test_a_hash_in_pages_is_the_hash_at_its_first_step(seed: int) -> None:
    draw = random.Random(seed)
    store = filled(draw)
    if draw.random() < 0.7:
        store.compact(draw.randint(1, store.revision))
        store.scrub(draw.randint(1, 100))
    revision = draw.randint(store.compacted + 1, store.revision) if store.compacted < store.revision else 0
    expected = hash_history(store, revision or store.revision)
    assert disturbed(store, draw, hash_in_pages(store, revision or store.revision)) == expected


def test_a_pinned_revision_is_kept_until_the_read_ends_and_dropped_then() -> None:
    draw = random.Random(1)
    store = filled(draw)
    reading = answer_in_pages(store, everything(revision=30))
    next(reading)
    store.compact(store.revision)
    assert not store.scrub(10_000), "what the reader could come to is still there"
    reading.close()
    dropped = len(store.dropped)
    assert store.scrub(10_000)
    assert len(store.dropped) > dropped


def test_two_readers_of_one_revision_hold_it_together() -> None:
    store = filled(random.Random(2))
    first = answer_in_pages(store, everything())
    second = answer_in_pages(store, everything())
    next(first)
    next(second)
    change(store, random.Random(3))
    store.compact(store.revision)
    finish(first)
    assert not store.scrub(10_000)
    finish(second)
    assert store.scrub(10_000)


@pytest.mark.parametrize(
    ("revision", "error"), [(5, rpc_errors.COMPACTED), (10_000, rpc_errors.FUTURE_REVISION)]
)
def test_what_cannot_be_read_is_refused_at_the_first_step(revision: int, error: RpcError) -> None:
    store = filled(random.Random(4))
    store.compact(20)
    with pytest.raises(RpcError) as raised:
        next(answer_in_pages(store, everything(revision=revision)))
    assert raised.value == error
    assert store.scrub(10_000), "nothing is pinned"


@pytest.mark.parametrize(
    ("fields", "long"),
    [
        ({}, True),
        ({"limit": 4}, False),
        ({"limit": 5}, True),
        ({"limit": 4, "sort_order": rpc.RangeRequest.DESCEND}, True),
        ({"limit": 4, "min_mod_revision": 3}, True),
        ({"limit": 4, "revision": 30}, True),
        ({"count_only": True}, False),
        ({"count_only": True, "revision": 30}, True),
    ],
)
def test_a_range_is_long_when_it_has_to_visit_more_than_a_page(fields: dict[str, Any], long: bool) -> None:
    store = filled(random.Random(5))
    assert range_is_long(store, everything(**fields)) is long
    assert not range_is_long(store, rpc.RangeRequest(key=b"k01", **fields))
    assert not range_is_long(store, rpc.RangeRequest(key=b"k01", range_end=b"k03", **fields))


def test_a_step_takes_fewer_records_when_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_KEYS", 1_000)
    store = Store()
    for number in range(64):
        draft = Draft(store)
        draft.put(b"%02d" % number, b"v" * 600_000, 0)
        store.advance(draft.delta())
    parts = finish(answer_in_pages(store, everything()))
    assert max(map(len, parts[1:])) < 1_300_000


def test_wire_forms_that_are_on_disk_are_fetched_together() -> None:
    store = filled(random.Random(6))
    disk = {(record.mod_revision, record.sub): record.data for record in store.records()}
    expected = answer_range(store, everything())
    store.resident.limit = 0
    store.settle(store.take_fresh()[0])
    asked: list[int] = []

    def fetch_all(records: Sequence[Record]) -> list[bytes]:
        asked.append(len(records))
        return [disk[record.mod_revision, record.sub] or b"" for record in records]

    store.resident.fetch_all = fetch_all
    assert b"".join(finish(answer_in_pages(store, everything()))) == expected
    assert max(asked) > 1


def test_a_watcher_is_told_of_large_values_that_are_on_disk_in_bounded_pieces() -> None:
    store = Store()
    for number in range(64):
        draft = Draft(store)
        draft.put(b"%02d" % number, b"v" * 100_000, 0)
        store.advance(draft.delta())
    disk = {(record.mod_revision, record.sub): record.data for record in store.records()}
    store.resident.fetch_all = lambda records: [disk[one.mod_revision, one.sub] or b"" for one in records]
    store.resident.limit = 0
    store.settle(store.take_fresh()[0])
    store.resident.limit = 4_000_000
    watcher = Watcher(
        1, b"", None, 2, no_put=False, no_delete=False, prev_kv=False, fragment=False, progress_notify=False
    )
    told: list[int] = []
    while watcher.lagging:
        events, _ = watcher.take(store)
        assert len(events) < 10, "about half a megabyte"
        told += [event.record.mod_revision for event in events]
    assert told == list(range(2, 66))
