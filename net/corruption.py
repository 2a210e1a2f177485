"""Comparing hashes with the other members: before serving, and now and then while leading.

A member answers peers' calls ``hashkv`` with the hash of its history up to a revision. At the start a member
compares its own with theirs, and does not serve when one differs. The leader compares every so often, and
raises the CORRUPT alarm for whoever differs; then no member takes requests until an operator has looked.
The rules are etcd's: only hashes at one revision and of one compaction can be compared, and a member that
claims a revision or a compaction that the leader has not seen is corrupt, too.
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
from tercet.core.mvcc.pages import Steps
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
        seconds: between two checks while leading; 0: ``run`` does nothing.
    """

    def __init__(self, world: World, member: _Member, seconds: float) -> None:
        self._world = world
        self._member = member
        self._seconds = seconds
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
        if self._seconds <= 0:
            return
        while True:
            await self._world.clock.sleep(self._seconds)
            if self._member.is_leader:
                try:
                    await self.check()
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

    async def _accuse(self, member_id: int, mine: _Hash, theirs: _Hash) -> None:
        self._world.probe.log(
            "error", "found hash mismatch", member=f"{member_id:x}", revision=mine.revision,
            hash=mine.hash, other_revision=theirs.revision, other_hash=theirs.hash,
        )
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
