"""``--write-out=simple``: short texts for people and for ``cut``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..client.prefix import prefix_end
from .context import complain, write_bytes
from .rows import ROWS
from .show import unsupported
from .text import quoted

__all__ = ["SimplePrinter"]

_ALARMS: Final = ("NONE", "NOSPACE", "CORRUPT")
_OPEN_END: Final = b"\0"


def _permissions(answer: Any, role: str) -> str:
    lines = [f"Role {role}\n"]
    for title, other in (("Read", 0), ("Write", 1)):
        lines.append(f"KV {title}:\n")
        lines += [_range(one.key, one.range_end) for one in answer.perm if one.permType in (other, 2)]
    return "".join(lines)


def _range(key: bytes, end: bytes) -> str:
    start = key.decode("utf-8", "surrogateescape")
    if not end:
        return f"\t{start}\n"
    text = f"\t[{start}, <open ended>" if end == _OPEN_END else f"\t[{start}, {_word(end)})"
    if key and prefix_end(key) == end:
        text += f" (prefix {start})"
    return text + "\n"


def _word(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _revoked(answer: Any, role: str, key: bytes, end: bytes) -> str:
    if not end:
        return f"Permission of key {_word(key)} is revoked from role {role}\n"
    rest = "<open ended>" if end == _OPEN_END else f"{_word(end)})"
    return f"Permission of range [{_word(key)}, {rest} is revoked from role {role}\n"


def _time_to_live(answer: Any, keys: bool) -> str:
    if answer.TTL == -1 and answer.grantedTTL == 0:
        return f"lease {_lease(answer.ID)} already expired\n"
    text = (
        f"lease {_lease(answer.ID)} granted with TTL({answer.grantedTTL}s), remaining({answer.TTL}s)"
    )
    if keys:
        text += f", attached keys([{' '.join(_word(key) for key in answer.keys)}])"
    return text + "\n"


def _lease(number: int) -> str:
    return f"{number & (1 << 64) - 1:016x}"


def _leases(answer: Any) -> str:
    lines = [f"found {len(answer.leases)} leases\n"]
    return "".join([*lines, *(f"{_lease(lease.ID)}\n" for lease in answer.leases)])


def _alarm(answer: Any) -> str:
    lines = []
    for one in answer.alarms:
        member = f"memberID:{one.memberID} " if one.memberID else ""
        lines.append(member + (f"alarm:{_ALARMS[one.alarm]} " if one.alarm else "") + "\n")
    return "".join(lines)


def _member(what: str) -> Callable[..., str]:
    def shown(answer: Any, member: int) -> str:
        return f"Member {member:16x} {what} cluster {answer.header.cluster_id:16x}\n"

    return shown


def _member_add(answer: Any, name: str, urls: str) -> str:
    member = answer.member
    cluster = ",".join(
        f"{name if one.ID == member.ID else one.name}={url}" for one in answer.members for url in one.peerURLs
    )
    return (
        f"Member {member.ID:16x} added to cluster {answer.header.cluster_id:16x}\n\n"
        f"ETCD_NAME={quoted(name)}\n"
        f"ETCD_INITIAL_CLUSTER={quoted(cluster)}\n"
        f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quoted(urls)}\n"
        'ETCD_INITIAL_CLUSTER_STATE="existing"\n'
    )


def _user_get(answer: Any, user: str) -> str:
    return f"User: {user}\nRoles:" + "".join(f" {role}" for role in answer.roles) + "\n"


def _lines(field: str) -> Callable[..., str]:
    return lambda answer: "".join(f"{one}\n" for one in getattr(answer, field))


def _auth_status(answer: Any) -> str:
    enabled = "true" if answer.enabled else "false"
    return f"Authentication Status: {enabled}\nAuthRevision: {answer.authRevision}\n"


_SHAPES: Final[dict[str, Callable[..., str]]] = {
    "grant": lambda answer: f"lease {_lease(answer.ID)} granted with TTL({answer.TTL}s)\n",
    "revoke": lambda answer, lease: f"lease {_lease(lease)} revoked\n",
    "keep_alive": lambda answer: f"lease {_lease(answer.ID)} keepalived with TTL({answer.TTL})\n",
    "time_to_live": _time_to_live,
    "leases": _leases,
    "alarm": _alarm,
    "member_add": _member_add,
    "member_remove": _member("removed from"),
    "member_update": _member("updated in"),
    "member_promote": _member("promoted in"),
    "move_leader": lambda answer, old, new: f"Leadership transferred from {old:x} to {new:x}\n",
    "auth_status": _auth_status,
    "role_add": lambda answer, role: f"Role {role} created\n",
    "role_delete": lambda answer, role: f"Role {role} deleted\n",
    "role_get": _permissions,
    "role_list": _lines("roles"),
    "role_grant": lambda answer, role: f"Role {role} updated\n",
    "role_revoke": _revoked,
    "user_add": lambda answer, user: f"User {user} created\n",
    "user_delete": lambda answer, user: f"User {user} deleted\n",
    "user_get": _user_get,
    "user_list": _lines("users"),
    "user_passwd": lambda answer: "Password updated\n",
    "user_grant": lambda answer, user, role: f"Role {role} is granted to user {user}\n",
    "user_revoke": lambda answer, user, role: f"Role {role} is revoked from user {user}\n",
}


class SimplePrinter:
    """See the module's text."""

    format = "simple"

    def __init__(self, hexadecimal: bool) -> None:
        self._hex = hexadecimal
        self.value_only = False
        self._bytes_kinds: dict[str, Callable[[Any], bytes]] = {
            "get": self._get,
            "put": self._put,
            "delete": self._delete,
            "txn": self._txn,
            "watch": self._watch,
        }

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        if kind in self._bytes_kinds:
            write_bytes(self._bytes_kinds[kind](answer))
        elif kind == "health":
            complain(_health(answer))
        elif kind in ROWS:
            write_bytes("".join(", ".join(row) + "\n" for row in ROWS[kind](answer)).encode())
        elif kind in _SHAPES:
            write_bytes(_SHAPES[kind](answer, *more).encode("utf-8", "surrogateescape"))
        else:
            raise unsupported("simple")

    def _data(self, data: bytes) -> bytes:
        return "".join(f"\\x{byte:02x}" for byte in data).encode() if self._hex else data

    def _pair(self, kv: Any) -> bytes:
        value = self._data(kv.value) + b"\n"
        return value if self.value_only else self._data(kv.key) + b"\n" + value

    def _get(self, answer: Any) -> bytes:
        return b"".join(self._pair(kv) for kv in answer.kvs)

    def _put(self, answer: Any) -> bytes:
        return b"OK\n" + (self._pair(answer.prev_kv) if answer.HasField("prev_kv") else b"")

    def _delete(self, answer: Any) -> bytes:
        return b"%d\n" % answer.deleted + b"".join(self._pair(kv) for kv in answer.prev_kvs)

    def _txn(self, answer: Any) -> bytes:
        parts = [b"SUCCESS\n" if answer.succeeded else b"FAILURE\n"]
        shapes = {
            "response_range": self._get,
            "response_put": self._put,
            "response_delete_range": self._delete,
            "response_txn": self._txn,
        }
        for one in answer.responses:
            kind = one.WhichOneof("response")
            parts.append(b"\n" + (shapes[kind](getattr(one, kind)) if kind else b""))
        return b"".join(parts)

    def _watch(self, answer: Any) -> bytes:
        parts = []
        for event in answer.events:
            parts.append(b"DELETE\n" if event.type else b"PUT\n")
            if event.HasField("prev_kv"):
                parts.append(self._pair(event.prev_kv))
            parts.append(self._pair(event.kv))
        return b"".join(parts)


def _health(answers: Any) -> str:
    lines = []
    for one in answers:
        if one.healthy:
            lines.append(f"{one.endpoint} is healthy: successfully committed proposal: took = {one.took}\n")
        else:
            lines.append(f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}\n")
    return "".join(lines)
