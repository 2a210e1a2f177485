"""The applied state on disk: what is found after a crash at any step, and what a member lets go of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
from google.protobuf.message import Message

from tercet.core.durable import Meta
from tercet.core.errors import Corruption
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.raft.quorum import configuration_of
from tercet.core.raft.types import Entry, Event, HardState, SnapshotMeta, SnapshotReady
from tercet.core.wal import Identity
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.keeper import Keeper, KeeperLimits
from tercet.net.match_log import match_log
from tercet.net.storage import Recovered, Storage
from tercet.net.world import World
from tercet.sim.contract import run_in_world
from tercet.sim.world import SimWorld

ME = Identity(cluster_id=0xC1, member_id=0xA1)
TERM = 1
ENTRIES = 48
LIMITS = KeeperLimits(
    snapshot_count=8, catchup_entries=3, scrub_records=4, scrub_seconds=0.0, resident_bytes=600
)


def entry(index: int) -> Entry:
    """Puts over a few keys, deletions, transactions, leases, compactions: each where it always is."""
    kind, request = Command.PUT, rpc.PutRequest(key=b"k%d" % (index % 5), value=b"%d" % index * 40)
    other: Message | None = None
    if index % 11 == 0:
        kind, other = Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k0", range_end=b"k3")
    elif index % 7 == 0:
        puts = (rpc.PutRequest(key=b"t%d" % number, value=bytes(index)) for number in range(3))
        kind, other = Command.TXN, rpc.TxnRequest(success=[rpc.RequestOp(request_put=put) for put in puts])
    elif index % 9 == 0:
        kind, other = Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=index, TTL=100 + index)
    elif index % 10 == 0:
        kind, other = Command.COMPACTION, rpc.CompactionRequest(revision=index - 8)
    elif index > 9 and index % 4 == 0:
        request.lease = 9
    payload = (other if other is not None else request).SerializeToString()
    return Entry(TERM, index, encode_command(kind, 0xA1, index, payload))


def digests() -> list[bytes]:
    """The machine's digest after each entry, the empty one first."""
    machine = Machine()
    found = [machine.digest()]
    for index in range(1, ENTRIES + 1):
        machine.apply(entry(index))
        found.append(machine.digest())
    return found


DIGESTS = digests()
#: What the first crash is counted by, and at which operation of the next opening there is another; 0: none.
CRASHES = [("disk", 0), ("disk", 6), ("sync", 0), ("sync", 9)]


class FakeNode:
    """Applies what its log holds, as the loop would, at once."""

    def __init__(self, machine: Machine, storage: Storage, term: int = TERM) -> None:
        self.machine = machine
        self.storage = storage
        self.events: list[Event] = []
        self.persisted = machine.applied_index

    @property
    def state(self) -> SimpleNamespace:
        log = SimpleNamespace(base_index=0, term_at=lambda index: TERM)
        return SimpleNamespace(
            persisted_index=self.persisted, applied_index=self.machine.applied_index,
            configuration=configuration_of((0xA1,)), log=log,
        )  # fmt: skip

    def happen(self, event: Event) -> None:
        self.events.append(event)

    async def append_and_apply(self, index: int) -> None:
        await self.storage.append(HardState(TERM, 0xA1, index - 1), (entry(index),))
        self.persisted = index
        self.machine.apply(entry(index))


class Opened:
    """A data directory, opened as a member does it, with the entries that the backend lacks applied."""

    def __init__(self, storage: Storage, keeper: Keeper, node: FakeNode, log: tuple[Entry, ...]) -> None:
        self.storage, self.keeper, self.node, self.log = storage, keeper, node, log

    @classmethod
    async def open(cls, world: World, limits: KeeperLimits = LIMITS) -> Opened:
        storage, recovered = await Storage.open(world, "/data", ME, segment_bytes=4096)
        keeper = Keeper(world, "/data", storage, limits)
        _, entries, _ = await match_log(storage, recovered, keeper.meta)
        node = FakeNode(keeper.machine, storage)
        for found in entries:
            if found.index > node.machine.applied_index:
                node.machine.apply(found)
        node.persisted = node.machine.applied_index
        keeper.attach(node)  # type: ignore[arg-type]  # as much of a state as the keeper reads
        return cls(storage, keeper, node, entries)

    def close(self) -> None:
        self.keeper.close()
        self.storage.close()


class Life:
    """One host whose member applies entries until the power fails."""

    def __init__(self, seed: int) -> None:
        self.sim = SimWorld(seed, ("n",))
        self.acknowledged = 0
        self.installing = False
        self.found_index = -1
        self.found_digest = b""

    async def live(self, world: World) -> None:
        member = await Opened.open(world)
        for index in range(member.node.machine.applied_index + 1, ENTRIES + 1):
            await member.node.append_and_apply(index)
            self.acknowledged = index
            if member.node.machine.scrubbing:
                member.node.machine.scrub(LIMITS.scrub_records)
            if index % 3 == 0:
                await member.keeper.commit()
        member.close()

    async def look(self, world: World) -> None:
        member = await Opened.open(world)
        self.found_index = member.node.machine.applied_index
        self.found_digest = member.node.machine.digest()
        member.close()

    async def run(self, operation: str, crash_at: int, crash_again_at: int) -> bool:
        """Crash at that operation of the first life and of the next opening; whether the first happened."""
        host = self.sim.host("n")
        host.arm(operation, crash_at)
        await self.sim.start("n", self.live).done.wait()
        crashed = not self.finished
        self.sim.crash("n")
        if crash_again_at:
            host.arm("disk", crash_again_at)
            await self.sim.start("n", self.look).done.wait()
            self.sim.crash("n")
        await self.sim.start("n", self.look).done.wait()
        return crashed

    @property
    def finished(self) -> bool:
        return self.acknowledged == ENTRIES


@pytest.mark.parametrize(("operation", "crash_again_at"), CRASHES)
def test_a_crash_at_any_step_loses_nothing_acknowledged(operation: str, crash_again_at: int) -> None:
    crashes = 0
    for crash_at in range(1, 1000):
        life = Life(seed=crash_at)
        crashed = life.sim.run(life.run, operation, crash_at, crash_again_at)
        assert life.sim.failures == []
        assert life.acknowledged <= life.found_index <= life.acknowledged + 1
        assert life.found_digest == DIGESTS[life.found_index]
        crashes += crashed
        if not crashed:
            break
    else:
        raise AssertionError("the first life never ended without a crash")
    assert crashes > 40


def test_the_log_is_let_go_behind_what_the_backend_holds() -> None:
    async def body(world: World) -> tuple[Meta, list[str]]:
        life = Life(0)
        await life.live(world)
        again = await Opened.open(world)
        assert again.log[0].index == again.keeper.meta.base_index + 1
        assert again.node.machine.digest() == DIGESTS[ENTRIES]
        again.close()
        return again.keeper.meta, world.disk.list("/data/member/wal")

    meta, segments = run_in_world(body)
    assert ENTRIES - 12 < meta.index <= ENTRIES
    assert meta.index - 12 < meta.base_index <= meta.index - LIMITS.catchup_entries
    assert len(segments) <= 4  # of more than ten; the lock is among them


def test_raft_hears_of_a_base_only_when_it_is_durable() -> None:
    async def body(world: World) -> None:
        member = await Opened.open(world)
        for index in range(1, 21):
            await member.node.append_and_apply(index)
            await member.keeper.commit()
            for event in member.node.events:
                assert isinstance(event, SnapshotReady)
                assert event.release <= member.keeper.meta.base_index
                assert event.meta.index <= member.keeper.meta.index
        releases = [event.release for event in member.node.events if isinstance(event, SnapshotReady)]
        assert releases == sorted(releases) and len(releases) >= 2
        member.close()

    run_in_world(body)


def test_nothing_is_written_that_the_own_log_does_not_hold() -> None:
    async def body(world: World) -> None:
        member = await Opened.open(world)
        await member.node.append_and_apply(1)
        member.node.machine.apply(entry(2))  # committed by the others' logs
        await member.keeper.commit()
        assert member.keeper.meta.index == 0
        member.node.persisted = 2
        await member.keeper.commit()
        assert member.keeper.meta.index == 2
        member.close()

    run_in_world(body)


def test_values_beyond_the_bound_are_read_back_and_old_chunks_go() -> None:
    async def body(world: World) -> None:
        member = await Opened.open(world, KeeperLimits(resident_bytes=2000))
        machine = member.node.machine
        for number in range(1, 400):
            request = rpc.PutRequest(key=b"key%d" % (number % 20), value=b"%d" % number * 100)
            machine.apply(
                Entry(TERM, number, encode_command(Command.PUT, 1, number, request.SerializeToString()))
            )
            member.node.persisted = number
            if number % 50 == 0:
                await member.keeper.commit()
        await member.keeper.commit()
        gone = [record for record in machine.store.records() if record.data is None]
        assert len(gone) > 380
        for record in gone:
            message = machine.store.data_of(record, keep=False)
            assert b"%d" % (record.mod_revision - 1) * 100 in message
        size = member.keeper.backend.size_in_use()
        store = machine.store
        store.compact(store.revision)
        machine.scrubbing = True
        await member.keeper.defragment()
        assert member.keeper.backend.size_in_use() < size / 4
        assert sum(1 for _ in store.records()) == 20
        assert all(b"0" * 0 in store.data_of(record) for record in store.records())
        digest = machine.digest()
        member.node.storage.close()
        again = Keeper(world, "/data", member.storage, LIMITS)
        assert again.machine.digest() == digest

    run_in_world(body)


class Receiver(Life):
    """A member that gets a snapshot at some time."""

    async def live(self, world: World) -> None:
        giver = Giver()
        member = await Opened.open(world)
        node = member.node
        for index in range(node.machine.applied_index + 1, 11):
            await node.append_and_apply(index)
            self.acknowledged = index
            if index == 6:
                await member.keeper.commit()
        self.installing = True
        staging = await member.keeper.receive()
        await staging.commit(giver.rows)
        node.machine = await member.keeper.install(staging, HardState(TERM, 0xA1, ENTRIES - 8))
        node.persisted = node.machine.applied_index
        self.acknowledged = node.machine.applied_index
        for index in range(node.machine.applied_index + 1, ENTRIES + 1):
            await node.append_and_apply(index)
            self.acknowledged = index
            await member.keeper.commit()
        member.close()


class Giver:
    """The rows of a state after most entries; made once."""

    rows: ClassVar[list[tuple[str, bytes, bytes | None]]] = []

    @classmethod
    def prepare(cls) -> None:
        async def body(world: World) -> None:
            member = await Opened.open(world)
            for index in range(1, ENTRIES - 7):
                await member.node.append_and_apply(index)
            await member.keeper.commit()
            meta, view = member.keeper.view()
            assert meta.index == ENTRIES - 8
            cls.rows = [(name, key, value) for name in view.buckets() for key, value in view.scan(name)]
            view.close()
            member.close()

        run_in_world(body)


@pytest.mark.parametrize(("operation", "crash_again_at"), CRASHES)
def test_a_snapshot_is_installed_wholly_or_not_at_all(operation: str, crash_again_at: int) -> None:
    Giver.prepare()
    seen: dict[int, None] = {}
    for crash_at in range(1, 1000):
        life = Receiver(seed=crash_at)
        crashed = life.sim.run(life.run, operation, crash_at, crash_again_at)
        assert life.sim.failures == []
        assert life.found_digest == DIGESTS[life.found_index]
        installed = life.acknowledged == 10 and life.found_index == ENTRIES - 8
        assert installed or life.acknowledged <= life.found_index <= life.acknowledged + 1
        seen[life.found_index] = None
        if not crashed:
            break
    assert 10 in seen and ENTRIES - 8 in seen and ENTRIES in seen


async def refused(world: World, recovered: Recovered, meta: Meta) -> str:
    storage, _ = await Storage.open(world, "/data", ME, segment_bytes=4096)
    with pytest.raises(Corruption) as raised:
        await match_log(storage, recovered, meta)
    storage.close()
    return str(raised.value)


def test_a_log_that_does_not_go_with_the_backend_is_corruption() -> None:
    configuration = SnapshotMeta(20, TERM, (0xA1,))
    meta = Meta(20, TERM, 5, -1, configuration, 10, TERM)
    late = tuple(map(entry, range(15, 25)))
    short = tuple(map(entry, range(5, 18)))

    async def body(world: World) -> list[str]:
        empty = Meta(0, 0, 1, -1, SnapshotMeta(0, 0, ()))
        return [
            await refused(world, Recovered(HardState(), late, False, 0), meta),
            await refused(world, Recovered(HardState(), short, False, 0), meta),
            await refused(world, Recovered(HardState(), (), False, 0), meta),
            await refused(world, Recovered(HardState(), late, False, 0), empty),
        ]

    gap, end, nothing, missing = run_in_world(body)
    assert "begins with entry 15" in gap and "goes on after entry 10" in gap
    assert "ends with entry 17, but entry 20 was applied" in end
    assert "the log is empty" in nothing
    assert "goes on after entry 0" in missing


def test_a_deleted_key_stays_deleted_when_only_its_deletion_was_let_go() -> None:
    """The chunk with the put still holds what is wanted, the one with the deletion goes at the compaction."""
    requests: list[tuple[Command, Message]] = [
        *((Command.PUT, rpc.PutRequest(key=b"k%d" % number, value=b"v")) for number in range(6)),
        (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k0")),
        (Command.PUT, rpc.PutRequest(key=b"other", value=b"v")),
        (Command.COMPACTION, rpc.CompactionRequest(revision=9)),
    ]

    async def main(world: World) -> None:
        opened = await Opened.open(world)
        node, keeper = opened.node, opened.keeper
        for index, (command, request) in enumerate(requests, 1):
            data = encode_command(command, 0xA1, index, request.SerializeToString())
            await opened.storage.append(HardState(TERM, 0xA1, index - 1), (Entry(TERM, index, data),))
            node.persisted = index
            node.machine.apply(Entry(TERM, index, data))
            if index >= 6:
                await keeper.commit()
        while node.machine.scrubbing:
            node.machine.scrub(100)
        await keeper.commit()
        await keeper.commit()
        kept = node.machine.digest()
        opened.close()
        again = await Opened.open(world)
        assert again.node.machine.store.latest(b"k0") is None
        assert again.node.machine.digest() == kept
        again.close()

    run_in_world(main)
