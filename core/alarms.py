"""The alarms that members have raised, and what is refused while one is on.

NOSPACE refuses what takes room; deletions and compactions, which are the way out, go on. CORRUPT refuses
everything that reads or writes keys, or takes them away with their lease. (etcd means to, but goes on
answering reads.) What is about users, members and the alarms themselves goes on: an administrator may have
to log in before the alarm can be ended.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout
from typing import Final

import msgspec

from . import rpc_errors
from .command import Command
from .mvcc.record import Delta
from .wire.proto import rpc_pb2 as rpc

__all__ = ["Alarm", "Alarms"]

_KEY = Layout(">Qi")
_REFUSED_WHEN_CORRUPT: Final = (
    Command.PUT, Command.DELETE_RANGE, Command.TXN, Command.COMPACTION, Command.LEASE_GRANT,
    Command.LEASE_REVOKE, Command.LEASE_EXPIRE,
)  # fmt: skip


class Alarm(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An alarm that a member has raised; ``kind`` is etcd's ``AlarmType``."""

    member: int
    kind: int


class Alarms:
    """The alarms that are on.

    Args:
        change: notes a row of the durable form (``Machine.change``).
    """

    def __init__(self, change: Callable[[str, bytes, bytes | None], None]) -> None:
        self.raised: tuple[Alarm, ...] = ()  # sorted
        self._change = change

    def load(self, key: bytes, value: bytes) -> None:
        """Take back a row."""
        self.raised = tuple(sorted((*self.raised, Alarm(*_KEY.unpack(key)))))

    def handle(self, payload: bytes) -> tuple[bytes, Delta]:
        """Carry out an ``AlarmRequest``."""
        request = rpc.AlarmRequest.FromString(payload)
        asked = Alarm(request.memberID, request.alarm)
        shown: tuple[Alarm, ...] = ()
        if request.action == rpc.AlarmRequest.GET:
            shown = tuple(alarm for alarm in self.raised if request.alarm in (rpc.NONE, alarm.kind))
        elif request.action == rpc.AlarmRequest.DEACTIVATE:
            shown = (asked,) if asked in self.raised else ()
            self.raised = tuple(alarm for alarm in self.raised if alarm != asked)
            self._change("alarm", _KEY.pack(asked.member, asked.kind), None)
        elif request.action == rpc.AlarmRequest.ACTIVATE and asked != Alarm(0, rpc.NONE):
            shown = (asked,)
            if asked not in self.raised:
                self.raised = tuple(sorted((*self.raised, asked)))
                self._change("alarm", _KEY.pack(asked.member, asked.kind), b"")
        members = [rpc.AlarmMember(memberID=alarm.member, alarm=alarm.kind) for alarm in shown]  # type: ignore[arg-type]
        return rpc.AlarmResponse(alarms=members).SerializeToString(), ()

    def refuse(self, kind: int, payload: bytes) -> None:
        """Raise ``RpcError`` when a command may not be carried out now."""
        if kind in _REFUSED_WHEN_CORRUPT:
            self.refuse_when_corrupt()
        if any(alarm.kind == rpc.NOSPACE for alarm in self.raised):
            needs_space = kind in (Command.PUT, Command.LEASE_GRANT) or (
                kind == Command.TXN and _has_puts(rpc.TxnRequest.FromString(payload))
            )
            if needs_space:
                raise rpc_errors.NO_SPACE.with_traceback(None)

    def refuse_when_corrupt(self) -> None:
        """Raise ``RpcError`` while the CORRUPT alarm is on."""
        if self.raised and any(alarm.kind == rpc.CORRUPT for alarm in self.raised):
            raise rpc_errors.CORRUPT.with_traceback(None)


def _has_puts(request: rpc.TxnRequest) -> bool:
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_put" or (kind == "request_txn" and _has_puts(operation.request_txn)):
            return True
    return False
