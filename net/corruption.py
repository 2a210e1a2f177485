"""Comparing hashes with the other members: before serving, and now and then while leading.

A member answers peers' calls ``hashkv`` with the hash of its history up to a revision. At the start a member
compares its own with theirs, and does not serve when one differs. The leader compares every so often, and
raises the CORRUPT alarm for whoever differs; then no member takes requests until an operator has looked.
The rules are etcd's: only hashes at one revision and of one compaction can be compared, and a member that
claims a revision or a compaction that the leader has not seen is corrupt, too.

With ``--compact-hash-check-enabled`` the leader also compares what the last compaction has left. That needs
no member to be up to date, and can tell who is wrong: the smaller part. When no majority agrees, nobody
knows, and the alarm is the whole cluster's (member 0).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio

from tercet.core import rpc_errors
from tercet.core.errors import Corruption
from tercet.core.machine import Alarm, Command, Machine
from tercet.core.mvcc.hashing import hash_in_pages
from tercet.core.mvcc.steps import Steps
from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.proto import rpc_pb2 as rpc

from .turns import in_turns, restarting
from .world import World

__all__ = ["CorruptionCheck"]

_METHOD = "hashkv"
_CALL_SECONDS = 30.0  # a history of millions of records takes a while, as it is read between other things
_CONNECT_SECONDS = 1.0
_POLL_SECONDS = 0.05


class _Member(Protocol):
    member_id: int
    machine: Machine
    calls: dict[str, Callable[[bytes], Awaitable[bytes]]]

    @property
    def is_leader(self) -> bool: ...

    def connected_since(self, member_id: int) -> float | None: ...

    async def call_member(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes: ...

    async def propose_and_wait(self, kind: int, payload: bytes) -> object: ...

    async def wait_read_point(self) -> None: ...


class _Hash(msgspec.Struct, frozen=True, array_like=True):
    """A member's answer."""

    revision: int  # the store's
    compacted: int
    hash: int


def _hash_history(machine: Machine, revision: int) -> Steps[_Hash]:
    store = machine.store
    newest, compacted = store.revision, store.compacted
    if revision > newest:
        raise rpc_errors.FUTURE_REVISION.with_traceback(None)
    if 0 < revision < max(compacted, 1):
        raise rpc_errors.COMPACTED.with_traceback(None)
    return _Hash(newest, compacted, (yield from hash_in_pages(store, revision or newest)))


class CorruptionCheck:
    """The checks of one member.

    Args:
        seconds: between two checks while leading; 0: none.
        compaction_seconds: between two checks of the last compaction; 0: none.
    """

    def __init__(
        self, world: World, member: _Member, seconds: float, compaction_seconds: float = 0.0
    ) -> None:
        self._world = world
        self._member = member
        self._seconds = seconds
        self._compaction_seconds = compaction_seconds
        self._checked = 0  # the newest compaction of which all members were found to agree
        member.calls[_METHOD] = self._answer

    async def check_at_start(self) -> None:
        """Compare with whoever can be reached within a second.

        Raises:
            Corruption: another member has another history.
        """
        store = self._member.machine.store
        others = [one.id for one in self._member.machine.members.all() if one.id != self._member.member_id]
        with self._world.clock.timeout(_CONNECT_SECONDS):
            while any(self._member.connected_since(other) is None for other in others):
                await self._world.clock.sleep(_POLL_SECONDS)
        mine = await self._hash(0)
        for member_id, theirs in await self._ask_all(store.revision):
            if theirs.compacted == mine.compacted and theirs.hash != mine.hash:
                raise Corruption(
                    f"{self._member.member_id:x} found data inconsistency with peers: hash {mine.hash} at "
                    f"revision {mine.revision}, member {member_id:x} has {theirs.hash}"
                )
        self._world.probe.log("info", "initial corruption checking passed; no corruption")

    async def run(self) -> None:
        """Check now and then, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, self.check, self._seconds)
            nursery.start_soon(self._repeat, self.check_compaction, self._compaction_seconds)

    async def _repeat(self, check: Callable[[], Awaitable[None]], seconds: float) -> None:
        while seconds > 0:
            await self._world.clock.sleep(seconds)
            if self._member.is_leader:
                try:
                    await check()
                except RpcError as error:
                    self._world.probe.log("warn", "failed to check hash KV", error=error.message)

    async def check(self) -> None:
        """Compare once, and raise the alarm for who differs; raises ``RpcError``."""
        member = self._member
        before = await self._hash(0)
        answers = await self._ask_all(before.revision)
        await member.wait_read_point()
        after = await self._hash(0)
        if before.revision == after.revision and before.compacted == after.compacted:
            if before.hash != after.hash:
                await self._accuse(member.member_id, before, after)
        for member_id, theirs in answers:
            ahead = theirs.revision > after.revision or theirs.compacted > after.compacted
            if ahead or (theirs.compacted == before.compacted and theirs.hash != before.hash):
                await self._accuse(member_id, before, theirs)

    async def check_compaction(self) -> None:
        """Compare what the last compaction has left, once for each; raises ``RpcError``."""
        member = self._member
        compacted = member.machine.store.compacted
        if compacted <= self._checked:
            return
        mine = await self._hash(compacted)
        others = list(await self._ask_all(compacted))
        agreeing: dict[int, list[int]] = {mine.hash: [member.member_id]}
        for member_id, theirs in others:
            if theirs.compacted == mine.compacted:
                agreeing.setdefault(theirs.hash, []).append(member_id)
        voters = len(member.machine.members.voters())
        compared = sum(map(len, agreeing.values()))
        if len(agreeing) > 1:
            await self._accuse_minority(compacted, agreeing, voters // 2 + 1)
        elif compared == voters and member.machine.store.compacted == compacted:
            self._checked = compacted
        self._world.probe.log(
            "info", "finished compaction hash check", revision=compacted, number_of_members=compared
        )

    async def _accuse_minority(self, compacted: int, agreeing: dict[int, list[int]], quorum: int) -> None:
        right = [value for value, members in agreeing.items() if len(members) >= quorum]
        if not right:
            self._world.probe.log(
                "error", "Detected compaction hash mismatch but cannot identify the corrupted members",
                revision=compacted,
            )  # fmt: skip
            await self._raise_alarm(0)
            return
        for value, members in agreeing.items():
            for member_id in members if value not in right else ():
                self._world.probe.log(
                    "error", "Detected compaction hash mismatch", member=f"{member_id:x}", revision=compacted,
                    hash=right[0], other_hash=value,
                )  # fmt: skip
                await self._raise_alarm(member_id)

    async def _accuse(self, member_id: int, mine: _Hash, theirs: _Hash) -> None:
        self._world.probe.log(
            "error", "found hash mismatch", member=f"{member_id:x}", revision=mine.revision,
            hash=mine.hash, other_revision=theirs.revision, other_hash=theirs.hash,
        )
        await self._raise_alarm(member_id)

    async def _raise_alarm(self, member_id: int) -> None:
        if Alarm(member_id, rpc.CORRUPT) in self._member.machine.alarms:
            return
        alarm = rpc.AlarmRequest(
            action=rpc.AlarmRequest.ACTIVATE, memberID=member_id, alarm=rpc.CORRUPT
        )
        await self._member.propose_and_wait(Command.ALARM, alarm.SerializeToString())

    async def _hash(self, revision: int) -> _Hash:
        """Raises ``RpcError``: the revision is compacted, or not there yet."""
        member = self._member
        steps = restarting(lambda: member.machine, lambda machine: _hash_history(machine, revision))
        return await in_turns(steps)

    async def _answer(self, payload: bytes) -> bytes:
        try:
            revision = msgspec.msgpack.decode(payload, type=int)
        except msgspec.MsgspecError:
            raise RpcError(Status.INVALID_ARGUMENT, "etcdserver: malformed hash request") from None
        return msgspec.msgpack.encode(await self._hash(revision))

    async def _ask_all(self, revision: int) -> list[tuple[int, _Hash]]:
        """The answers of the others that gave one, by member."""
        answers: dict[int, _Hash] = {}
        payload = msgspec.msgpack.encode(revision)

        async def ask(member_id: int) -> None:
            try:
                row = await self._member.call_member(member_id, _METHOD, payload, _CALL_SECONDS)
                answers[member_id] = msgspec.msgpack.decode(row, type=_Hash)
            except (RpcError, msgspec.MsgspecError) as problem:
                self._world.probe.log(
                    "warn", "failed to get hash from a peer", member=f"{member_id:x}", error=str(problem)
                )

        async with trio.open_nursery() as nursery:
            for member in self._member.machine.members.all():
                if member.id != self._member.member_id and not member.is_learner:
                    nursery.start_soon(ask, member.id)
        return sorted(answers.items())
