"""The commands in the log: how they are written, and what comes of one.

An entry's data is a header (command, proposing member, that member's sequence number) and a serialised
protobuf request. The proposing member finds its waiting client by (member, sequence). Bodies of outcomes
are serialised responses without field 1, the header, which the serving member puts in front.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct as Layout
from typing import Final, TypeAlias

import msgspec

from .mvcc.record import Delta
from .mvcc.steps import Steps
from .rpc_errors import RpcError

__all__ = ["HEADER", "Command", "Handled", "Outcome", "encode_command"]

HEADER: Final = Layout(">BQQ")


class Command(IntEnum):
    """What an entry asks for; the number is stored in logs and never changes its meaning."""

    PUT = 1
    DELETE_RANGE = 2
    TXN = 3
    COMPACTION = 4
    LEASE_GRANT = 5
    LEASE_REVOKE = 6
    LEASE_CHECKPOINT = 7
    ALARM = 8
    CLUSTER_VERSION = 9
    MEMBER_ATTRIBUTES = 10
    LEASE_EXPIRE = 11
    DOWNGRADE = 12
    AS_USER = 19  # wraps another command; 20 to 36: core.auth.commands
    MEMBER_ADD = 45  # 45 to 54: core.members
    MEMBER_REMOVE = 46
    MEMBER_UPDATE = 47
    MEMBER_PROMOTE = 48


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one entry did. ``member`` and ``sequence`` name the proposal, 0 and 0 for a leader's no-op."""

    member: int
    sequence: int
    revision: int  # of the store, after the entry
    body: bytes = b""  # the serialised response without its header
    error: RpcError | None = None
    events: Delta = ()
    parts: tuple[bytes, ...] = ()  # a long body in pieces, to be taken in place of ``body``


#: What the handler of a command returns: body and events, or how to come by them, a long body in parts.
Handled: TypeAlias = tuple[bytes, Delta] | Steps[tuple[list[bytes], Delta]]


def encode_command(kind: Command, member: int, sequence: int, payload: bytes) -> bytes:
    """An entry's data. ``member`` and ``sequence`` are unsigned 64-bit."""
    return HEADER.pack(kind, member, sequence) + payload
