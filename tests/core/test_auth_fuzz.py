"""Any bytes as auth commands: nothing is raised, twins agree, and a snapshot holds all there is."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.auth.commands import AS_USER, AUTH_COMMANDS, encode_authenticate, wrap
from tercet.core.auth.values import Identity
from tercet.core.machine import Machine, encode_command
from tercet.core.raft.types import Entry
from tercet.core.wire.proto import rpc_pb2 as rpc

_NAMES = st.sampled_from(["root", "alice", "bob", "", "é" * 200])
_KEYS = st.sampled_from([b"", b"\0", b"a", b"b", b"c"])
_HASHES = st.sampled_from(["", "aGFzaA==", "no base64"])


def _grant(name: str, kind: int, key: bytes, end: bytes) -> rpc.AuthRoleGrantPermissionRequest:
    request = rpc.AuthRoleGrantPermissionRequest(name=name)
    request.perm.permType, request.perm.key, request.perm.range_end = kind, key, end  # type: ignore[assignment]
    return request


_REQUESTS: dict[str, st.SearchStrategy[Message]] = {
    "AuthEnable": st.builds(rpc.AuthEnableRequest),
    "AuthDisable": st.builds(rpc.AuthDisableRequest),
    "AuthStatus": st.builds(rpc.AuthStatusRequest),
    "UserAdd": st.builds(rpc.AuthUserAddRequest, name=_NAMES, hashedPassword=_HASHES),
    "UserGet": st.builds(rpc.AuthUserGetRequest, name=_NAMES),
    "UserList": st.builds(rpc.AuthUserListRequest),
    "UserDelete": st.builds(rpc.AuthUserDeleteRequest, name=_NAMES),
    "UserChangePassword": st.builds(
        rpc.AuthUserChangePasswordRequest, name=_NAMES, hashedPassword=_HASHES
    ),
    "UserGrantRole": st.builds(rpc.AuthUserGrantRoleRequest, user=_NAMES, role=_NAMES),
    "UserRevokeRole": st.builds(rpc.AuthUserRevokeRoleRequest, name=_NAMES, role=_NAMES),
    "RoleAdd": st.builds(rpc.AuthRoleAddRequest, name=_NAMES),
    "RoleGet": st.builds(rpc.AuthRoleGetRequest, role=_NAMES),
    "RoleList": st.builds(rpc.AuthRoleListRequest),
    "RoleDelete": st.builds(rpc.AuthRoleDeleteRequest, role=_NAMES),
    "RoleGrantPermission": st.builds(_grant, _NAMES, st.integers(0, 9), _KEYS, _KEYS),
    "RoleRevokePermission": st.builds(
        rpc.AuthRoleRevokePermissionRequest, role=_NAMES, key=_KEYS, range_end=_KEYS
    ),
}


@st.composite
def _commands(draw: st.DrawFn) -> tuple[int, bytes]:
    method = draw(st.sampled_from(sorted(AUTH_COMMANDS)))
    kind, payload = AUTH_COMMANDS[method], b""
    if draw(st.integers(0, 9)) == 0:
        payload = draw(st.binary(max_size=20))
    elif method == "Authenticate":
        payload = encode_authenticate(draw(_NAMES), draw(st.integers(0, 9)), draw(st.binary(max_size=32)))
    else:
        payload = draw(_REQUESTS[method]).SerializeToString()
    wrapping = draw(st.integers(0, 9))
    if wrapping == 0:
        return AS_USER, draw(st.binary(max_size=20))
    if wrapping < 7:
        return AS_USER, wrap(Identity(draw(_NAMES), draw(st.integers(0, 20))), kind, payload)
    return kind, payload


@given(st.lists(_commands(), max_size=40))
def test_no_command_breaks_a_machine_and_twins_agree(commands: list[tuple[int, bytes]]) -> None:
    one, other = Machine(), Machine()
    for index, (kind, payload) in enumerate(commands, 1):
        entry = Entry(1, index, encode_command(kind, 1, index, payload))  # type: ignore[arg-type]
        assert one.apply(entry) == other.apply(entry)
        assert not one.auth.enabled or one.auth.is_root("root")
    assert one.digest() == other.digest() == Machine.restore(one.snapshot()).digest()
    fresh = Machine()
    loaders = fresh.auth.loaders()
    for (bucket, key), value in one.changes.items():
        if value is not None and bucket in loaders:
            loaders[bucket](key, value)
    assert fresh.auth.rows() == one.auth.rows()
