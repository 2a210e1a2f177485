"""Writes that take long: they come to the same as at once, and until their last step nobody sees anything."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from google.protobuf.message import Message

from tercet.core import machine as machines
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.mvcc import compare, draft, evaluate, pages, steps
from tercet.core.mvcc import store as stores
from tercet.core.mvcc.hashing import hash_history
from tercet.core.mvcc.ranges import answer_range
from tercet.core.mvcc.steps import finish
from tercet.core.raft.types import Entry
from tercet.core.wire.proto import rpc_pb2 as rpc

EVERYTHING = rpc.RangeRequest(key=b"\0", range_end=b"\0")
KEYS = 40


@contextmanager
def small_pages() -> Iterator[None]:
    """Pages of a few keys, so that most requests here take many steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (machines, draft, evaluate, pages, steps, stores):
            patch.setattr(module, "PAGE_KEYS", 4)
        patch.setattr(pages, "FIRST_BATCH", 3)
        patch.setattr(evaluate, "_STEP_BYTES", 100)
        yield


def key_range(draw: random.Random) -> tuple[bytes, bytes]:
    start, end = sorted(draw.sample(range(KEYS + 1), 2))
    return b"k%02d" % start, draw.choice((b"k%02d" % end, b"\0", b""))


def comparison(draw: random.Random) -> rpc.Compare:
    key, end = key_range(draw)
    made = rpc.Compare(key=key, range_end=end, result=draw.randrange(4))  # type: ignore[arg-type]
    match draw.randrange(3):
        case 0:
            made.target, made.version = rpc.Compare.VERSION, draw.randint(0, 3)
        case 1:
            made.target, made.mod_revision = rpc.Compare.MOD, draw.randint(1, 60)
        case _:
            made.target, made.value = rpc.Compare.VALUE, b"v" * draw.randint(0, 20)
    return made


def operation(draw: random.Random, taken: set[bytes], depth: int = 0) -> rpc.RequestOp:
    key, end = key_range(draw)
    match draw.randrange(5 if depth else 4):
        case 0:
            ranged = rpc.RangeRequest(
                key=key, range_end=end, limit=draw.choice((0, 0, 5)), count_only=draw.random() < 0.2,
                sort_order=draw.randrange(3), sort_target=draw.randrange(5),  # type: ignore[arg-type]
            )  # fmt: skip
            return rpc.RequestOp(request_range=ranged)
        case 1:
            deleted = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=draw.random() < 0.5)
            return rpc.RequestOp(request_delete_range=deleted)
        case 2 if depth < 2:
            return rpc.RequestOp(request_txn=transaction(draw, taken, depth + 1))
    name = b"k%02d" % draw.randrange(KEYS + 8)
    while name in taken:
        name += b"x"
    taken.add(name)
    return rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=b"v" * draw.randint(0, 20), prev_kv=True))


def transaction(draw: random.Random, taken: set[bytes], depth: int = 0) -> rpc.TxnRequest:
    return rpc.TxnRequest(
        compare=[comparison(draw) for _ in range(draw.randrange(3))],
        success=[operation(draw, taken, depth) for _ in range(draw.randint(1, 6))],
        failure=[operation(draw, taken, depth) for _ in range(draw.randint(1, 6))],
    )


def entries(draw: random.Random, count: int = 25) -> list[Entry]:
    """A log with a lease that many keys hang on, transactions, deletions, and a revocation."""
    requests: list[tuple[Command, Message]] = [(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=7, TTL=60))]
    for number in range(KEYS):
        lease = draw.choice((0, 7))
        requests.append((Command.PUT, rpc.PutRequest(key=b"k%02d" % number, value=b"v" * 9, lease=lease)))
    for _ in range(count):
        key, end = key_range(draw)
        if draw.random() < 0.6:
            requests.append((Command.TXN, transaction(draw, set())))
        elif draw.random() < 0.5:
            deletion = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=True)
            requests.append((Command.DELETE_RANGE, deletion))
        else:
            requests.append((Command.PUT, rpc.PutRequest(key=key, value=b"new", lease=draw.choice((0, 7)))))
    requests.insert(draw.randint(KEYS, len(requests)), (Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=7)))
    return [
        Entry(1, index, encode_command(kind, 1, index, request.SerializeToString()))
        for index, (kind, request) in enumerate(requests, 1)
    ]


class Seen(NamedTuple):
    """What can be read of a machine, and what its durable form would be told."""

    applied: int
    everything: bytes
    one: bytes
    counted: bytes
    hash: int
    events: int
    after: int
    lease: bool
    fresh: int
    changes: int

    @classmethod
    def of(cls, machine: Machine) -> Seen:
        store = machine.store
        events, after = store.events_since(2, b"", None, 10_000)
        return cls(
            machine.applied_index,
            machine.range(EVERYTHING)[1],
            machine.range(rpc.RangeRequest(key=b"k10"))[1],
            machine.range(rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True))[1],
            hash_history(store, store.revision),
            len(events),
            after,
            7 in machine.lessor,
            len(store.fresh),
            len(machine.changes),
        )


def body_of(outcome: Outcome) -> bytes:
    return outcome.body or b"".join(outcome.parts)


def applied(machine: Machine, entry: Entry) -> Outcome:
    """Apply in steps, and look at everything before each of them."""
    before = Seen.of(machine)
    result = machine.begin(entry)
    while not isinstance(result, Outcome):
        assert Seen.of(machine) == before
        try:
            next(result)
        except StopIteration as end:
            result = end.value
    return result


@pytest.mark.parametrize("seed", range(12))
def test_an_entry_in_steps_comes_to_the_same_and_is_not_seen_before_its_last_step(seed: int) -> None:
    log = entries(random.Random(seed))
    twin = Machine()
    expected = [(twin.apply(entry), twin.digest()) for entry in log]
    machine = Machine()
    with small_pages():
        for entry, (outcome, digest) in zip(log, expected, strict=True):
            found = applied(machine, entry)
            assert body_of(found) == body_of(outcome)
            assert (found.error, found.revision) == (outcome.error, outcome.revision)
            assert found.events == outcome.events
            assert machine.digest() == digest


@pytest.mark.parametrize("seed", range(12))
def test_a_read_only_transaction_in_steps_is_of_one_revision(seed: int) -> None:
    draw = random.Random(seed)
    machine = Machine()
    log = entries(draw)
    for entry in log[:-4]:
        machine.apply(entry)
    ranges = [rpc.RangeRequest(key=key, range_end=end) for key, end in (key_range(draw) for _ in range(4))]
    request = rpc.TxnRequest(
        compare=[comparison(draw)],
        success=[rpc.RequestOp(request_range=one) for one in ranges],
        failure=[rpc.RequestOp(request_range=one) for one in reversed(ranges)],
    )
    expected = finish(machine.read_txn(request))
    with small_pages():
        reading = machine.read_txn(request)
        rest = iter(log[-4:])
        while True:
            try:
                next(reading)
            except StopIteration as end:
                found = end.value
                break
            for entry in rest:
                machine.apply(entry)
                break
            if machine.store.compacted < machine.store.revision:
                machine.store.compact(machine.store.revision)
            machine.store.scrub(100)
    assert (found[0], b"".join(found[1])) == (expected[0], b"".join(expected[1]))


def test_what_a_million_keys_would_need_takes_many_steps() -> None:
    machine = Machine()
    log = entries(random.Random(1), 0)
    for entry in log[:KEYS]:
        machine.apply(entry)
    with small_pages():
        delete = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
        begun = machine.begin(Entry(1, KEYS + 1, encode_command(Command.DELETE_RANGE, 1, 99, delete)))
        assert not isinstance(begun, Outcome)
        assert sum(1 for _ in begun) > 2 * KEYS / 4
    assert not machine.store.live_count()


def test_what_is_closed_before_its_end_has_not_happened() -> None:
    machine = Machine()
    log = entries(random.Random(2), 0)
    for entry in log[:KEYS]:
        machine.apply(entry)
    before = answer_range(machine.store, EVERYTHING)
    with small_pages():
        delete = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
        begun = machine.begin(Entry(1, KEYS + 1, encode_command(Command.DELETE_RANGE, 1, 99, delete)))
        assert not isinstance(begun, Outcome)
        for _ in range(24):
            next(begun)
        begun.close()
    assert machine.store.advancing, "it was in the middle of it"
    assert answer_range(machine.store, EVERYTHING) == before
    assert machine.applied_index == KEYS


def test_the_scrubbing_of_one_large_revision_is_paced() -> None:
    machine = Machine()
    puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"%03d" % number)) for number in range(100)]
    for index in (1, 2):
        data = rpc.TxnRequest(success=puts).SerializeToString()
        machine.apply(Entry(1, index, encode_command(Command.TXN, 1, index, data)))
    store = machine.store
    store.compact(store.revision)
    rounds = 1
    while not store.scrub(10):
        rounds += 1
        assert len(store.dropped) <= rounds * 10
    assert len(store.dropped) == 100
    assert rounds >= 10


def test_compare_sees_missing_keys_of_a_range_that_takes_several_pages() -> None:
    machine = Machine()
    for entry in entries(random.Random(3), 0)[: KEYS + 1]:
        machine.apply(entry)
    delete = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
    machine.apply(Entry(1, KEYS + 2, encode_command(Command.DELETE_RANGE, 1, 99, delete)))
    request = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"\0", range_end=b"\0", target=rpc.Compare.VERSION, version=0)]
    )
    path: list[bool] = []
    with small_pages():
        finish(compare.branches(machine.store, request, machine.tally, path))
    assert path == [True]
