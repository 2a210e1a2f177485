"""The node's loop, alone in a simulated world, with a disk and peers that the test holds in its hands."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tercet.core import rpc_errors
from tercet.core.machine import Command, Outcome, encode_command
from tercet.core.members import MemberCommand, MemberView
from tercet.core.raft.types import (
    AppendReply,
    AppendRequest,
    Entry,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    ProposeRequest,
    ReadIndex,
    ReadIndexRequest,
    Tick,
    TransferLeader,
    VoteReply,
    VoteRequest,
)
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.persist import Durable, Persister
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .node_bench import TIMEOUT, Bench, HeldStorage, on_bench, put


def test_a_sole_member_leads_at_once_and_answers_a_proposal() -> None:
    async def test(bench: Bench) -> None:
        assert bench.node.is_leader
        bench.put(b"a")
        await bench.settle()
        [outcome] = bench.outcomes
        assert isinstance(outcome, Outcome) and (outcome.revision, outcome.error) == (2, None)

    on_bench(test)


def test_a_lone_proposal_is_synced_in_place_and_several_in_one_record_in_the_thread() -> None:
    async def test(bench: Bench) -> None:
        bench.storage.written.clear()
        bench.put(b"a")
        await bench.settle()
        bench.put(b"b")
        bench.put(b"c")
        await bench.settle()
        written = [(how, len(entries)) for how, _, entries in bench.storage.written]
        assert written == [("in place", 1), ("thread", 2)]
        assert len(bench.outcomes) == 3

    on_bench(test)


def test_what_arrives_during_a_sync_goes_into_one_next_record_and_is_answered_after_its_own() -> None:
    async def test(bench: Bench) -> None:
        bench.storage.hold()
        bench.storage.written.clear()
        for key in (b"a", b"b"):
            bench.put(key)
        await bench.settle()
        for number in range(5):
            bench.put(b"%d" % number)
            await bench.settle()
        assert [len(entries) for _, _, entries in bench.storage.written] == [2]
        assert bench.outcomes == []
        bench.storage.gate.set()
        await bench.settle()
        assert [len(entries) for _, _, entries in bench.storage.written] == [2, 5]
        assert len(bench.outcomes) == 7

    on_bench(test)


def test_a_request_that_is_too_large_is_refused_at_once() -> None:
    async def test(bench: Bench) -> None:
        bench.put(b"a", bytes(1000))
        assert bench.outcomes == [rpc_errors.REQUEST_TOO_LARGE]

    on_bench(test)


def test_proposals_are_refused_while_too_many_bytes_of_them_are_under_way() -> None:
    async def test(bench: Bench) -> None:
        bench.storage.hold()
        bench.node.limits.waiting_bytes = 2000
        for _ in range(3):
            bench.put(b"a", bytes(800))
        await bench.settle()
        assert bench.outcomes == [rpc_errors.TOO_MANY_REQUESTS]
        bench.storage.gate.set()
        await bench.settle()
        bench.put(b"a", bytes(800))
        await bench.settle()
        assert len(bench.outcomes) == 4 and isinstance(bench.outcomes[-1], Outcome)

    on_bench(test)


def test_without_a_leader_a_proposal_and_a_read_wait_until_their_timeout() -> None:
    async def test(bench: Bench) -> None:
        reads: list[RpcError | None] = []
        bench.put(b"a")
        bench.node.read_index(reads.append)
        await bench.world.clock.sleep(TIMEOUT - 0.2)
        assert (bench.outcomes, reads) == ([], [])
        await bench.world.clock.sleep(0.4)
        assert (bench.outcomes, reads) == ([rpc_errors.NOT_PROPOSED], [rpc_errors.TIMEOUT])

    on_bench(test, members=3)


def test_a_proposal_held_for_want_of_a_leader_goes_to_the_leader_that_appears() -> None:
    async def test(bench: Bench) -> None:
        bench.put(b"a")
        await bench.lead()
        [append] = [m for m in bench.sent.take(AppendRequest) if m.to == 2 and len(m.entries) == 1][-1:]
        assert append.entries[0].data.endswith(put(b"a"))
        bench.acknowledge(append.entries[0].index)
        await bench.settle()
        assert len(bench.outcomes) == 1 and isinstance(bench.outcomes[0], Outcome)

    on_bench(test, members=3)


def test_what_could_not_be_forwarded_is_forwarded_once_the_leader_is_reachable() -> None:
    async def test(bench: Bench) -> None:
        bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
        await bench.settle()
        bench.sent.cut = True
        bench.put(b"a")
        bench.node.read_index(lambda error: None)
        await bench.world.clock.sleep(0.5)
        bench.sent.cut = False
        await bench.world.clock.sleep(0.25)
        [forwarded] = bench.sent.take(ProposeRequest)
        assert (forwarded.to, len(forwarded.entries)) == (2, 1)
        assert len(bench.sent.take(ReadIndexRequest)) == 1

    on_bench(test, members=3)


def test_a_client_deadline_earlier_than_the_members_own_is_kept() -> None:
    async def test(bench: Bench) -> None:
        deadline = bench.world.clock.monotonic() + 1.0
        bench.node.propose(Command.PUT, put(b"a"), bench.outcomes.append, deadline)
        await bench.world.clock.sleep(1.2)
        assert bench.outcomes == [rpc_errors.NOT_PROPOSED]

    on_bench(test, members=3)


@pytest.mark.parametrize(("redialled", "error"), [
    (None, rpc_errors.TIMEOUT_CONNECTION_LOST),  # and not again since
    (0.5, rpc_errors.TIMEOUT_CONNECTION_LOST),
    (-60.0, rpc_errors.TIMEOUT),  # long before: that was not it
])  # fmt: skip
def test_a_proposal_lost_with_a_connection_times_out_with_that_reason(
    redialled: float | None, error: RpcError
) -> None:
    async def test(bench: Bench) -> None:
        bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
        await bench.settle()
        began = bench.world.clock.monotonic()
        bench.put(b"a")
        bench.sent.since = {2: None if redialled is None else began + redialled, 3: None}
        while not bench.outcomes:
            bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
            await bench.world.clock.sleep(0.5)
        assert bench.outcomes == [error]

    on_bench(test, members=3)


@pytest.mark.parametrize(("lost", "error"), [
    ((2, 3), rpc_errors.TIMEOUT_CONNECTION_LOST),
    ((2,), rpc_errors.TIMEOUT),  # a quorum stayed
])  # fmt: skip
def test_a_leader_without_a_quorum_of_connections_says_so(lost: tuple[int, ...], error: RpcError) -> None:
    async def test(bench: Bench) -> None:
        await bench.lead()
        bench.sent.since = dict.fromkeys(lost, None)
        bench.put(b"a")
        while not bench.outcomes:
            for heartbeat in bench.sent.take(HeartbeatRequest):
                bench.receive(HeartbeatReply(sender=heartbeat.to, to=1, term=heartbeat.term))
            await bench.world.clock.sleep(0.1)
        assert bench.outcomes == [error]

    on_bench(test, members=3)


def test_a_proposal_lost_with_its_leader_times_out_with_that_reason() -> None:
    async def test(bench: Bench) -> None:
        bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
        await bench.settle()
        bench.put(b"a")
        await bench.world.clock.sleep(1.0)
        bench.receive(HeartbeatRequest(sender=3, to=1, term=2, leader_commit=0))
        await bench.world.clock.sleep(TIMEOUT)
        assert bench.outcomes == [rpc_errors.TIMEOUT_LEADER_FAIL]
        assert (bench.node.leader_changes, bench.node.failed_proposals) == (2, 1)
        assert bench.node.pending_proposals == 0

    on_bench(test, members=3)


def test_a_follower_acknowledges_entries_only_once_they_are_durable() -> None:
    async def test(bench: Bench) -> None:
        bench.storage.hold()
        entries = (Entry(1, 1, b""), Entry(1, 2, b""))
        bench.receive(
            AppendRequest(
                sender=2, to=1, term=1, prev_log_index=0, prev_log_term=0, entries=entries, leader_commit=0
            )
        )
        await bench.settle()
        assert bench.storage.written and bench.sent.take(AppendReply) == []
        bench.storage.gate.set()
        await bench.settle()
        [reply] = bench.sent.take(AppendReply)
        assert (reply.success, reply.match_index) == (True, 2)

    on_bench(test, members=3)


def test_a_leader_sends_before_its_own_disk_has_synced() -> None:
    async def test(bench: Bench) -> None:
        await bench.lead()
        bench.sent.messages.clear()
        bench.storage.hold()
        bench.put(b"a")
        bench.put(b"b")
        await bench.settle()
        assert [len(m.entries) for m in bench.sent.take(AppendRequest) if m.to == 2] == [2]
        assert bench.outcomes == []

    on_bench(test, members=3)


def test_reads_of_one_turn_share_a_round_and_are_served_when_it_is_confirmed() -> None:
    async def test(bench: Bench) -> None:
        await bench.lead()
        bench.sent.messages.clear()
        served: list[RpcError | None] = []
        for _ in range(100):
            bench.node.read_index(served.append)
        await bench.settle()
        asked = {m.context for m in bench.sent.take(HeartbeatRequest) if m.to == 2 and m.context}
        assert len(asked) == 1 and served == []
        bench.receive(HeartbeatReply(sender=2, to=1, term=bench.node.term, context=asked.pop()))
        await bench.settle()
        assert served == [None] * 100

    on_bench(test, members=3)


def test_a_read_round_that_is_not_confirmed_is_asked_again_under_a_new_context() -> None:
    async def test(bench: Bench) -> None:
        await bench.lead()
        bench.node.read_index(lambda error: None)
        await bench.world.clock.sleep(1.3)
        contexts = [event.context for event in bench.steps.events if isinstance(event, ReadIndex)]
        assert len(contexts) >= 2 and len(set(contexts)) == len(contexts)
        assert all(context > 3 << 40 for context in contexts)

    on_bench(test, members=3)


def test_ticks_missed_in_a_pause_are_not_made_up_for() -> None:
    async def test(bench: Bench) -> None:
        def ticks() -> int:
            return sum(isinstance(event, Tick) for event in bench.steps.events)

        bench.steps.events.clear()
        await bench.world.clock.sleep(1.0)
        before = ticks()
        bench.clock.ahead += 60.0
        await bench.world.clock.sleep(1.0)
        assert before in (9, 10, 11)
        assert 9 <= ticks() - before <= 12

    on_bench(test)


async def lead_with_a_lease(bench: Bench) -> None:
    """A majority has answered a heartbeat."""
    await bench.lead()
    await bench.world.clock.sleep(0.15)
    for beat in bench.sent.take(HeartbeatRequest):
        bench.receive(HeartbeatReply(sender=2, to=1, term=1, context=beat.context))
    await bench.settle()


def test_with_leases_the_ticks_of_a_pause_are_counted_before_the_next_read() -> None:
    """The others have elected somebody else by then."""

    async def test(bench: Bench) -> None:
        await lead_with_a_lease(bench)
        reads: list[RpcError | None] = []
        bench.node.read_index(reads.append)
        await bench.settle()
        assert reads == [None], "nobody has to be asked while the lease runs"
        bench.clock.ahead += 60.0
        bench.node.read_index(reads.append)
        await bench.settle()
        assert None not in reads[1:]

    on_bench(test, members=3, lease=1)


@pytest.mark.parametrize(("stall", "times"), [(60.0, 1), (0.19, 4)], ids=["paused once", "always late"])
def test_with_leases_a_turn_that_takes_long_is_counted_too(stall: float, times: int) -> None:
    """However its turns stand still: after half a second the lease has ended."""

    async def test(bench: Bench) -> None:
        await lead_with_a_lease(bench)
        reads: list[RpcError | None] = []
        left = times
        note = bench.steps.step

        def stand_still(event: object, effects: object, state: object) -> None:
            nonlocal left
            note(event, effects, state)
            if isinstance(event, Tick) and left:
                left -= 1
                bench.clock.ahead += stall

        bench.steps.step = stand_still  # type: ignore[method-assign]
        while left:
            bench.node.read_index(lambda _: None)
            await bench.world.clock.sleep(0.01)
        bench.node.read_index(reads.append)
        await bench.settle()
        assert None not in reads

    on_bench(test, members=3, lease=1)


def test_with_leases_a_busy_leader_ticks_as_often_as_one_at_rest() -> None:
    async def test(bench: Bench) -> None:
        bench.steps.events.clear()
        for number in range(200):
            bench.put(b"%d" % number)
            await bench.world.clock.sleep(0.01)
        assert bench.node.is_leader and len(bench.outcomes) == 200
        assert 19 <= sum(isinstance(event, Tick) for event in bench.steps.events) <= 21

    on_bench(test, lease=1)


def test_with_leases_a_promise_not_to_vote_is_kept_when_the_clock_leaps_ahead() -> None:
    async def test(bench: Bench) -> None:
        bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
        await bench.settle()
        bench.clock.ahead += 60.0
        await bench.world.clock.sleep(0.15)
        bench.receive(VoteRequest(sender=3, to=1, term=2, last_log_index=9, last_log_term=1))
        await bench.settle()
        [reply] = bench.sent.take(VoteReply)
        assert (reply.vote_granted, reply.refusal) == (False, "vote/leader-alive")
        await bench.world.clock.sleep(0.9)
        bench.receive(VoteRequest(sender=3, to=1, term=3, last_log_index=9, last_log_term=1))
        await bench.settle()
        [reply] = bench.sent.take(VoteReply)
        assert reply.vote_granted

    on_bench(test, members=3, lease=1)


def test_a_batch_that_takes_long_to_apply_is_told() -> None:
    async def test(bench: Bench) -> None:
        def slowly(*_: object) -> None:
            bench.clock.ahead += 0.2

        bench.node.subscribe(slowly)
        bench.put(b"a")
        await bench.settle()
        assert ("etcd_server_slow_apply_total", 1.0) in bench.steps.counted
        assert "apply request took too long" in bench.steps.said

    on_bench(test)


def test_a_failing_disk_stops_the_node_and_answers_who_waits() -> None:
    outcomes: list[Any] = []

    async def main(world: World) -> None:
        bench = Bench(world)
        outcomes.append(bench.outcomes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.node.run)
            await bench.settle()
            bench.storage.failure = OSError(5, "Input/output error")
            bench.put(b"a")
            bench.put(b"b")

    with pytest.raises(BaseExceptionGroup) as group:
        run_in_world(main)
    assert group.group_contains(OSError, match="Input/output error")
    assert outcomes == [[rpc_errors.STOPPED, rpc_errors.STOPPED]]


def test_watchers_are_told_once_per_applied_batch_until_they_unsubscribe() -> None:
    async def test(bench: Bench) -> None:
        told: list[tuple[int, int]] = []
        unsubscribe = bench.node.subscribe(lambda events, revision: told.append((len(events), revision)))
        for key in (b"a", b"b", b"c"):
            bench.put(key)
        await bench.settle()
        assert told == [(3, 4)]
        unsubscribe()
        bench.put(b"d")
        await bench.settle()
        assert told == [(3, 4)]

    on_bench(test)


def test_peers_messages_beyond_the_inboxs_bound_are_dropped() -> None:
    async def main(world: World) -> None:
        bench = Bench(world, 3)
        bench.node.limits.inbox_messages = 10
        heartbeat = HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0)
        for _ in range(20):
            bench.receive(heartbeat)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.node.run)
            await bench.settle()
            assert len(bench.sent.take(HeartbeatReply)) == 10
            nursery.cancel_scope.cancel()

    run_in_world(main)


def test_a_call_goes_to_the_leader_or_is_answered_here_or_says_that_there_is_none() -> None:
    async def answer(payload: bytes) -> bytes:
        return b"here " + payload

    async def test(bench: Bench) -> None:
        bench.node.calls["echo"] = answer
        with pytest.raises(RpcError) as error:
            await bench.node.call_leader("echo", b"x")
        assert error.value == rpc_errors.NO_LEADER
        bench.receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0))
        await bench.settle()
        assert await bench.node.call_leader("echo", b"x") == b"called 2 echo"

    async def alone(bench: Bench) -> None:
        bench.node.calls["echo"] = answer
        assert await bench.node.call_leader("echo", b"x") == b"here x"
        with pytest.raises(RpcError):
            await bench.node.call_leader("other", b"x")

    on_bench(test, members=3)
    on_bench(alone)


def test_an_error_of_the_outcome_is_raised_by_who_waits_for_it() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(RpcError) as error:
            revoke = rpc.LeaseRevokeRequest(ID=5).SerializeToString()
            await bench.node.propose_and_wait(Command.LEASE_REVOKE, revoke)
        assert error.value == rpc_errors.LEASE_NOT_FOUND

    on_bench(test)


def test_entries_owed_for_the_disk_replace_the_tail_they_conflict_with() -> None:
    batch = Durable()
    batch.add_entries((Entry(1, 5), Entry(1, 6), Entry(1, 7)))
    batch.add_entries((Entry(2, 6),))
    assert batch.entries == [Entry(1, 5), Entry(2, 6)]
    batch.add_entries((Entry(3, 2), Entry(3, 3)))
    assert batch.entries == [Entry(3, 2), Entry(3, 3)]
    with pytest.raises(AssertionError, match="gap"):
        batch.add_entries((Entry(3, 5),))


def test_messages_wait_for_the_newest_batch_that_was_owed_before_them() -> None:
    async def main(world: World) -> None:
        storage = HeldStorage()
        finished: list[Durable] = []
        persister = Persister(storage, world.clock, finished.append)
        reply = HeartbeatReply(sender=1, to=2, term=1)
        assert not persister.after((reply,))
        storage.hold()
        persister.owe(HardState(1, 2, 0), (), 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(persister.run)
            await world.clock.sleep(0.001)
            assert persister.after((reply,))
            persister.owe(None, (Entry(1, 1),), 1)
            assert persister.after((reply, reply))
            storage.gate.set()
            await world.clock.sleep(0.001)
            assert [len(batch.messages) for batch in finished] == [1, 2]
            assert persister.idle
            nursery.cancel_scope.cancel()

    run_in_world(main)


def test_what_others_forwarded_while_leadership_moves_is_passed_on_to_the_next_leader() -> None:
    async def test(bench: Bench) -> None:
        await bench.lead()
        bench.node.happen(TransferLeader(2))
        await bench.settle()
        theirs = encode_command(Command.PUT, 3, 77, put(b"theirs"))
        bench.put(b"ours")
        bench.receive(ProposeRequest(sender=3, to=1, term=1, entries=(theirs,)))
        await bench.settle()
        assert bench.sent.take(ProposeRequest) == []
        bench.receive(HeartbeatRequest(sender=2, to=1, term=bench.node.term + 1, leader_commit=0))
        await bench.settle()
        passed_on = [data for message in bench.sent.take(ProposeRequest) for data in message.entries]
        assert theirs in passed_on and len(passed_on) == 2

    on_bench(test, members=3)


def test_a_change_of_members_is_refused_by_the_machine_and_so_by_raft() -> None:
    async def test(bench: Bench) -> None:
        outcomes: list[Outcome | RpcError] = []
        unknown = rpc.MemberRemoveRequest(ID=9).SerializeToString()
        bench.node.propose_change(MemberCommand.REMOVE, unknown, outcomes.append)
        await bench.settle()
        [outcome] = outcomes
        assert isinstance(outcome, Outcome) and outcome.error == rpc_errors.MEMBER_NOT_FOUND
        assert bench.node.state.configuration.voters == (1,)
        added = rpc.Member(ID=7, peerURLs=["http://n7:2380"], isLearner=True).SerializeToString()
        bench.node.propose_change(MemberCommand.ADD, added, outcomes.append)
        await bench.settle()
        assert bench.node.state.configuration.learners == (7,)

    on_bench(test)


def test_a_learner_takes_nothing_from_clients_and_still_tells_its_own_name() -> None:
    async def test(bench: Bench) -> None:
        bench.node.machine.members.load([MemberView(1, "", ("http://n1:2380",), (), True)], [])
        bench.put(b"a")
        await bench.settle()  # the machine's members are looked at with the next entry
        bench.put(b"b")
        reads: list[RpcError | None] = []
        bench.node.read_index(reads.append)
        assert bench.outcomes[1:] == reads == [rpc_errors.NOT_SUPPORTED_FOR_LEARNER]
        said = internal.MemberAttributes(member_id=1, name="n1").SerializeToString()
        await bench.node.propose_and_wait(Command.MEMBER_ATTRIBUTES, said)
        assert [member.name for member in bench.node.members()] == ["n1"]

    on_bench(test)
