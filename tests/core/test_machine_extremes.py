"""No number and no text that a client can put into a request makes a member stumble over it.

What stumbles while an entry is applied stops the member, and again at every start: the log keeps the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tercet.core.auth.commands import AUTH_COMMANDS
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import auth_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS

_RANGE = rpc.RangeRequest(
    key=b"a", range_end=b"c", limit=1, revision=1,
    sort_order=rpc.RangeRequest.ASCEND, sort_target=rpc.RangeRequest.VERSION,
    min_mod_revision=1, max_mod_revision=1, min_create_revision=1, max_create_revision=1,
)  # fmt: skip
_PLAIN_RANGE = rpc.RangeRequest(key=b"a", range_end=b"c", limit=1)
_PUT = rpc.PutRequest(key=b"ab", value=b"v", lease=5)
_DELETE = rpc.DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True)
_OPERATIONS = [
    rpc.RequestOp(request_put=_PUT),
    rpc.RequestOp(request_range=_RANGE),
    rpc.RequestOp(request_range=_PLAIN_RANGE),
    rpc.RequestOp(request_txn=rpc.TxnRequest(success=[rpc.RequestOp(request_range=_PLAIN_RANGE)])),
]
_COMPARES = [
    rpc.Compare(key=b"a", range_end=b"c", version=1, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER),
    rpc.Compare(key=b"a", lease=5, target=rpc.Compare.LEASE, result=rpc.Compare.LESS),
    rpc.Compare(key=b"a", value=b"v", target=rpc.Compare.VALUE, result=rpc.Compare.NOT_EQUAL),
]
_AUTH_REQUESTS: dict[str, Message] = {
    "RoleGrantPermission": rpc.AuthRoleGrantPermissionRequest(
        name="r", perm=auth_pb2.Permission(permType=auth_pb2.Permission.WRITE, key=b"a", range_end=b"c")
    ),
    "UserGrantRole": rpc.AuthUserGrantRoleRequest(user="u", role="r"),
    "RoleRevokePermission": rpc.AuthRoleRevokePermissionRequest(role="r", key=b"a", range_end=b"c"),
}
REQUESTS: list[tuple[int, Message]] = [
    (Command.PUT, _PUT),
    (Command.DELETE_RANGE, _DELETE),
    (Command.TXN, rpc.TxnRequest(compare=_COMPARES, success=_OPERATIONS, failure=_OPERATIONS)),
    (Command.COMPACTION, rpc.CompactionRequest(revision=2)),
    (Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=6, TTL=10)),
    (Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5)),
    *(
        (Command.ALARM, rpc.AlarmRequest(action=action, memberID=1, alarm=rpc.NOSPACE))
        for action in rpc.AlarmRequest.AlarmAction.values()
    ),
    *(
        (command, _AUTH_REQUESTS.get(name) or METHODS[f"/etcdserverpb.Auth/{name}"].request())
        for name, command in AUTH_COMMANDS.items()
    ),
]

_OF_64 = (0, 1, -1, 2**62, 2**63 - 2, 2**63 - 1, -(2**63))
_UNSIGNED = (0, 1, 2**63, 2**64 - 1)
_OF_32 = (0, 1, 2, 7, -1, 2**31 - 1, -(2**31))
_EXTREMES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_INT64: _OF_64,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED,
    FieldDescriptor.TYPE_ENUM: _OF_32,
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_BYTES: (b"", b"\0", b"\xff" * 3, b"a" * 70_000),
    FieldDescriptor.TYPE_STRING: ("", "\0", "ü", "a" * 70_000),
}


def _variants(request: Message) -> Iterator[Message]:
    """The request with one of its fields, at any depth, at an extreme; one after the other."""

    def within(part: Message) -> Iterator[None]:
        for field in part.DESCRIPTOR.fields:
            if field.message_type is not None:
                if field.is_repeated:
                    for inner in getattr(part, field.name):
                        yield from within(inner)
                elif part.HasField(field.name):
                    yield from within(getattr(part, field.name))
            elif not field.is_repeated and (field.containing_oneof is None or part.HasField(field.name)):
                kept = getattr(part, field.name)
                for value in _EXTREMES[field.type]:
                    setattr(part, field.name, value)
                    yield
                setattr(part, field.name, kept)

    for _ in within(request):
        copy = type(request)()
        copy.CopyFrom(request)
        yield copy


def _furnished() -> tuple[Machine, Callable[[int, Message], Outcome]]:
    machine = Machine()

    def apply(kind: int, request: Message) -> Outcome:
        data = encode_command(kind, 7, 9, request.SerializeToString())  # type: ignore[arg-type]
        return machine.apply(Entry(1, machine.applied_index + 1, data))

    apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=10))
    for key in (b"a", b"b", b"a"):
        apply(Command.PUT, rpc.PutRequest(key=key, value=b"v", lease=5))
    apply(AUTH_COMMANDS["RoleAdd"], rpc.AuthRoleAddRequest(name="r"))
    return machine, apply


@pytest.mark.parametrize(("kind", "request_message"), REQUESTS, ids=lambda part: type(part).__name__)
def test_every_command_is_carried_out_or_refused_whatever_its_fields_hold(
    kind: int, request_message: Message
) -> None:
    before = _furnished()[0].applied_index
    for variant in _variants(request_message):
        machine, apply = _furnished()
        apply(kind, variant)
        assert machine.applied_index == before + 1


@pytest.mark.parametrize("request_message", [_RANGE, _PLAIN_RANGE])
def test_every_range_is_answered_or_refused_whatever_its_fields_hold(
    request_message: rpc.RangeRequest,
) -> None:
    machine, _ = _furnished()
    answered = 0
    for variant in _variants(request_message):
        for revision in (0, 3):
            assert isinstance(variant, rpc.RangeRequest)
            variant.revision = variant.revision or revision
            try:
                machine.range(variant)
            except RpcError:
                continue
            answered += 1
    assert answered > 50
