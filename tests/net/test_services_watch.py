"""The Watch service: order, completeness, the past, slow clients, progress, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.mvcc import store as stores
from tercet.core.mvcc.record import Event, make_record
from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.services import watch as watches
from tercet.net.server.services import watch_hub
from tercet.net.server.services.watcher import cut_at_revision
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeStream

Test = Callable[[Desk, trio.Nursery], Awaitable[None]]


def with_desk(test: Test, **options: Any) -> None:
    """Run a test with a desk and a nursery, which is cancelled at the end."""

    async def run(world: World) -> None:
        desk = Desk(world, **options)
        async with trio.open_nursery() as nursery:
            await test(desk, nursery)
            nursery.cancel_scope.cancel()
        assert not desk.services.watch.hub.streams
        assert desk.services.watch.hub.watcher_count == 0

    run_in_world(run)


def create(key: bytes = b"k", **options: Any) -> rpc.WatchRequest:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, **options))


def cancel(watch_id: int) -> rpc.WatchRequest:
    return rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id))


PROGRESS = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


def delete(desk: Desk, key: bytes) -> None:
    desk.ask("KV/DeleteRange", rpc.DeleteRangeRequest(key=key))


async def started(stream: FakeStream, request: rpc.WatchRequest) -> Any:
    stream.request(request)
    response = await stream.response()
    assert response.created
    return response


def told(response: rpc.WatchResponse) -> list[tuple[bytes, int, bool]]:
    return [(e.kv.key, e.kv.mod_revision, e.type == kv_pb2.Event.PUT) for e in response.events]


def test_a_watch_is_told_of_every_change_of_its_key_and_of_no_other() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        response = await started(stream, create())
        assert (response.watch_id, response.header.revision) == (0, 1)
        desk.put(b"k")
        response = await stream.response()
        assert (told(response), response.header.revision) == ([(b"k", 2, True)], 2)
        desk.put(b"other")
        delete(desk, b"k")
        assert told(await stream.response()) == [(b"k", 4, False)]
        assert stream.unread() == 0

    with_desk(test)


def test_a_watch_from_the_past_is_told_what_was_and_then_what_comes() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for _ in range(3):
            desk.put(b"k")
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(start_revision=3))
        response = await stream.response()
        assert (told(response), response.header.revision) == ([(b"k", 3, True), (b"k", 4, True)], 4)
        desk.put(b"k")
        assert told(await stream.response()) == [(b"k", 5, True)]

    with_desk(test)


def test_a_watch_on_the_future_is_not_told_what_comes_before() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(start_revision=4))
        for _ in range(3):
            desk.put(b"k")
        assert told(await stream.response()) == [(b"k", 4, True)]

    with_desk(test)


def test_previous_records_come_when_asked_for_unless_compacted() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for value in (b"1", b"2", b"3"):
            desk.put(b"k", value)
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=3))
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(start_revision=3, prev_kv=True))
        first, second = (await stream.response()).events
        assert not first.HasField("prev_kv")
        assert second.prev_kv.value == b"2"

    with_desk(test)


def test_filters_leave_out_puts_or_deletions() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(filters=[rpc.WatchCreateRequest.NOPUT]))
        await started(stream, create(filters=[rpc.WatchCreateRequest.NODELETE]))
        desk.put(b"k")
        delete(desk, b"k")
        found = {}
        for _ in range(2):
            response = await stream.response()
            found[response.watch_id] = told(response)
        assert found == {0: [(b"k", 3, False)], 1: [(b"k", 2, True)]}

    with_desk(test)


def test_a_compacted_start_is_refused_with_the_revision_to_begin_from() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for _ in range(5):
            desk.put(b"k")
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=5))
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(start_revision=2))
        response = await stream.response()
        assert (response.canceled, response.compact_revision, response.watch_id) == (True, 5, 0)
        assert response.header.revision == 0 and response.header.raft_term == 3
        await started(stream, create(start_revision=5))
        assert told(await stream.response()) == [(b"k", 5, True), (b"k", 6, True)]

    with_desk(test)


def test_the_id_of_a_watch_that_compaction_has_ended_is_taken_until_it_is_cancelled() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for _ in range(5):
            desk.put(b"k")
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=5))
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(start_revision=2, watch_id=7))
        assert (await stream.response()).compact_revision == 5
        refused = await started(stream, create(watch_id=7))
        assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
        stream.request(cancel(7))
        response = await stream.response()
        assert (response.watch_id, response.canceled, response.compact_revision) == (7, True, 0)
        stream.request(cancel(7))
        assert (await started(stream, create(watch_id=7))).watch_id == 7

    with_desk(test)


def test_empty_ranges_and_ids_in_use_are_refused_as_created_and_cancelled() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(watch_id=7))
        for request, reason in [
            (create(b"b", range_end=b"a"), "mvcc: watcher range is empty"),
            (create(b"b", range_end=b"b"), "mvcc: watcher range is empty"),
            (create(watch_id=7), "mvcc: duplicate watch ID provided on the WatchStream"),
        ]:
            response = await started(stream, request)
            assert (response.canceled, response.watch_id, response.cancel_reason) == (True, -1, reason)
        stream.request(cancel(7))
        assert (await stream.response()).canceled
        assert not (await started(stream, create(watch_id=7))).canceled

    with_desk(test)


def test_chosen_ids_are_skipped_when_the_server_chooses() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(watch_id=1))
        assert [(await started(stream, create())).watch_id for _ in range(3)] == [0, 2, 3]

    with_desk(test)


def test_a_cancelled_watch_is_told_nothing_more() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create())
        await started(stream, create(b"", range_end=b"\0"))
        stream.request(cancel(0))
        response = await stream.response()
        assert (response.canceled, response.watch_id) == (True, 0)
        stream.request(cancel(99))  # unknown: no answer
        desk.put(b"k")
        response = await stream.response()
        assert (response.watch_id, told(response)) == (1, [(b"k", 2, True)])
        assert stream.unread() == 0

    with_desk(test)


def test_the_events_of_a_transaction_come_together() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(b"m", range_end=b"n"))
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=key)) for key in (b"m1", b"m2", b"x")]
        desk.ask("KV/Txn", rpc.TxnRequest(success=puts))
        assert told(await stream.response()) == [(b"m1", 2, True), (b"m2", 2, True)]

    with_desk(test)


def test_a_slow_client_costs_no_memory_and_misses_nothing() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch", window=1)
        await started(stream, create())
        for _ in range(5000):
            desk.put(b"k", b"v" * 500)
            await trio.lowlevel.checkpoint()
        assert desk.services.watch.hub.watcher_count == 0  # it lags: the store is its queue
        revisions: list[int] = []
        while len(revisions) < 5000:
            revisions += [revision for _, revision, _ in told(await stream.response())]
        assert revisions == list(range(2, 5002))
        await desk.world.clock.sleep(0.1)
        assert desk.services.watch.hub.watcher_count == 1
        desk.put(b"k")
        assert told(await stream.response()) == [(b"k", 5002, True)]

    with_desk(test)


def test_catching_up_does_not_starve_the_other_watches_of_a_stream() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for _ in range(6000):
            desk.put(b"k", b"v" * 500)
        stream = desk.open(nursery, "Watch/Watch", window=0)
        await started(stream, create(start_revision=1))
        stream.request(create(b"live", watch_id=9))
        while (await stream.response()).watch_id != 9:
            pass
        desk.put(b"live")
        before = 0
        while (await stream.response()).watch_id != 9:
            before += 1
        assert 0 < before < 3

    with_desk(test)


def test_progress_is_never_ahead_of_events() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for _ in range(3000):
            desk.put(b"k", b"v" * 500)
        stream = desk.open(nursery, "Watch/Watch", window=0)
        await started(stream, create(start_revision=1))
        stream.request(PROGRESS)
        seen = 0
        while True:
            response = await stream.response()
            if not response.events:
                break
            seen = response.events[-1].kv.mod_revision
        assert (response.watch_id, response.header.revision, seen) == (-1, 3001, 3001)

    with_desk(test)


def test_quiet_watches_that_asked_for_it_hear_of_progress() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        nursery.start_soon(desk.services.watch.run, 10.0)
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(progress_notify=True))
        await started(stream, create(b"other"))
        await desk.world.clock.sleep(9)
        desk.put(b"k")
        await stream.response()
        desk.put(b"x")
        await desk.world.clock.sleep(2)
        assert stream.unread() == 0  # it was told something in this interval
        response = await stream.response()
        assert (response.watch_id, response.header.revision, len(response.events)) == (0, 3, 0)

    with_desk(test)


def test_large_responses_come_in_fragments_only_when_allowed() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"k%d" % n, value=b"v" * 300)) for n in range(9)]
        desk.ask("KV/Txn", rpc.TxnRequest(success=puts))
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create(range_end=b"l", start_revision=1))
        assert len((await stream.response()).events) == 9
        await started(stream, create(range_end=b"l", start_revision=1, fragment=True))
        pieces = [await stream.response() for _ in range(3)]
        assert [(len(piece.events), piece.fragment) for piece in pieces] == [(3, True), (3, True), (3, False)]
        assert {piece.watch_id for piece in pieces} == {1}

    with_desk(test, max_request_bytes=1100)


def test_bytes_that_are_no_request_end_the_stream() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        stream.request_bytes(b"\xff\xff")
        await stream.finished.wait()
        assert stream.status is not None and stream.status[0] == 13

    with_desk(test)


def test_a_half_closed_client_still_hears() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create())
        stream.half_close()
        await desk.world.clock.sleep(1)
        desk.put(b"k")
        assert told(await stream.response()) == [(b"k", 2, True)]

    with_desk(test)


def test_a_stream_that_insists_on_a_leader_ends_without_one() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        insisting = desk.open(nursery, "Watch/Watch", hasleader="true")
        patient = desk.open(nursery, "Watch/Watch")
        await started(insisting, create())
        await started(patient, create())
        desk.member.change_leader(0)
        await desk.world.clock.sleep(1.5)
        desk.member.change_leader(101)
        await desk.world.clock.sleep(10)
        assert insisting.status is None
        desk.member.change_leader(0)
        await insisting.finished.wait()
        assert insisting.status == (14, "etcdserver: no leader")
        late = desk.open(nursery, "Watch/Watch", hasleader="true")
        await late.finished.wait()
        assert late.status == (14, "etcdserver: no leader")
        assert patient.status is None

    with_desk(test)


def test_a_stopping_member_ends_its_streams_with_a_reason() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        await started(stream, create())
        desk.services.shut()
        await stream.finished.wait()
        assert stream.status == (14, "etcdserver: server stopped")

    with_desk(test)


KEYS = st.sampled_from([b"a", b"b", b"ab"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.tuples(st.just("put"), KEYS), st.tuples(st.just("delete"), KEYS),
                       st.tuples(st.just("rest"), KEYS), st.tuples(st.just("read"), KEYS)), max_size=60),
    st.integers(1, 12),
    st.integers(0, 2),
)
def test_watches_are_ordered_unique_and_complete_however_they_are_read(
    steps: list[tuple[str, bytes]], start: int, window: int
) -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch", window=window)
        await started(stream, create(b"a", range_end=b"b", start_revision=start))
        expected, found = [], []
        for step, key in steps:
            before = desk.member.machine.revision
            if step == "put":
                desk.put(key)
            elif step == "delete":
                delete(desk, key)
            elif step == "rest":
                await desk.world.clock.sleep(0.01)
            elif len(found) < len(expected):
                found += told(await stream.response())
            after = desk.member.machine.revision
            if after > before and after >= start and key != b"b":
                expected.append((key, after, step == "put"))
        while len(found) < len(expected):
            found += told(await stream.response())
        assert found == expected

    with_desk(test)


@given(st.lists(st.tuples(st.integers(2, 6), st.integers(0, 50)), max_size=20), st.integers(0, 100))
def test_responses_are_cut_between_revisions_only(rows: list[tuple[int, int]], limit: int) -> None:
    events = [
        Event(make_record(b"k", revision, revision, 0, 1, b"v" * size, 0), None)
        for revision, size in sorted(rows)
    ]
    size = cut_at_revision(events, limit)
    assert size or not events
    assert not {e.record.mod_revision for e in events[:size]} & {e.record.mod_revision for e in events[size:]}


def test_a_watch_without_a_start_begins_after_the_revision_that_its_creation_names() -> None:
    """Revision 0 means "from now" in etcd's API, so "now" must be told: who resumes begins there (B34)."""

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        desk.put(b"k", b"before")
        stream = desk.open(nursery, "Watch/Watch")
        stream.request(create())
        desk.put(b"k", b"before the request was read")
        response = await stream.response()
        assert (response.created, response.header.revision) == (True, 3)
        desk.put(b"k", b"after")
        assert told(await stream.response()) == [(b"k", 4, True)]

    with_desk(test)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["put", "read", "reconnect", "rest"]), max_size=60), st.booleans())
def test_a_client_that_resumes_where_it_was_hears_everything_once(steps: list[str], slow: bool) -> None:
    """Resuming after the last revision heard of: of an event, of progress, or of the watch's creation."""

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        window = 0 if slow else 1000
        stream = desk.open(nursery, "Watch/Watch", window=window)
        position = (await started(stream, create())).header.revision
        found: list[int] = []

        async def read() -> None:
            nonlocal position
            stream.request(PROGRESS)
            while (response := await stream.response()).events:
                found.extend(revision for _, revision, _ in told(response))
                position = found[-1]
            assert response.header.revision >= position
            position = response.header.revision

        for step in steps:
            if step == "put":
                desk.put(b"k")
            elif step == "read":
                await read()
            elif step == "rest":
                await desk.world.clock.sleep(0.01)
            else:
                stream = desk.open(nursery, "Watch/Watch", window=window)
                await started(stream, create(start_revision=position + 1))
        await read()
        assert found == list(range(2, desk.member.machine.revision + 1))

    with_desk(test)


def test_a_thousand_watches_on_one_stream_are_each_told_of_their_own_key() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        for number in range(1000):
            assert (await started(stream, create(b"%d" % number))).watch_id == number
        for number in (999, 0, 500):
            desk.put(b"%d" % number)
            response = await stream.response()
            assert (response.watch_id, response.events[0].kv.key) == (number, b"%d" % number)
        assert stream.unread() == 0

    with_desk(test)


@pytest.mark.parametrize("turns", range(40))
def test_a_revision_of_very_many_events_is_read_in_turns_and_told_whole(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stores, watches):
        monkeypatch.setattr(module, "PAGE_KEYS", 4)

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        names = [b"k%02d" % number for number in range(40)]
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=name)) for name in names]
        desk.ask("KV/Txn", rpc.TxnRequest(success=puts))
        desk.ask("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"k", range_end=b"l"))
        stream = desk.open(nursery, "Watch/Watch")
        stream.request(create(range_end=b"l", start_revision=2))
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        revision = desk.put(b"k-last").header.revision
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=revision))
        desk.member.machine.scrub(1000)
        assert (await stream.response()).created
        found: list[tuple[bytes, int, bool]] = []
        while len(found) < 81:
            response = await stream.response()
            if response.canceled:
                assert response.compact_revision == revision
                break
            found += told(response)
        expected = [(name, 2, True) for name in names] + [(name, 3, False) for name in names]
        expected.append((b"k-last", 4, True))
        assert found == expected[: len(found)] and len(found) in (0, 80, 81)
        await trio.lowlevel.checkpoint()
        assert desk.member.machine.store.scrub(1000), "nothing is pinned any more"

    with_desk(test)


@pytest.mark.parametrize("many", [0, 1, 9, 1000])
def test_whom_very_many_events_concern_hears_of_all_of_them_and_nobody_else(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_hub, "_MANY_EVENTS", many)

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch")
        ranges = [(b"b", b"c"), (b"b05", b""), (b"a", b"b"), (b"c", b"\0"), (b"b04", b"b06"), (b"a", b"\0")]
        for key, end in ranges:
            await started(stream, create(key, range_end=end))
        desk.put(b"b99")  # still queued when the others come
        names = [b"b%02d" % number for number in range(10)]
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=name)) for name in reversed(names)]
        desk.ask("KV/Txn", rpc.TxnRequest(success=puts))
        desk.put(b"a-last")
        found: dict[int, list[bytes]] = {}
        for _ in range(3000):
            await trio.lowlevel.checkpoint()
            while stream.unread():
                response = await stream.response()
                found.setdefault(response.watch_id, []).extend(event.kv.key for event in response.events)
        events = [b"b99", *reversed(names), b"a-last"]
        for number, (key, end) in enumerate(ranges):
            last = key + b"\0" if not end else b"\xff" if end == b"\0" else end
            assert found.get(number, []) == [name for name in events if key <= name < last], number

    with_desk(test)
