"""``--write-out=fields``: one ``"Name" : value`` a line, texts quoted as Go quotes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .context import write
from .show import unsupported
from .text import quoted

__all__ = ["FieldsPrinter"]

_PERMISSIONS: Final = ("READ", "WRITE", "READWRITE")
_ALARMS: Final = ("NONE", "NOSPACE", "CORRUPT")


def _field(name: str, value: object) -> str:
    return f'"{name}" : {value}\n'


def _header(answer: Any) -> str:
    header = answer.header
    return (
        _field("ClusterID", header.cluster_id)
        + _field("MemberID", header.member_id)
        + _field("Revision", header.revision)
        + _field("RaftTerm", header.raft_term)
    )


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _key_value(kv: Any, prefix: str = "") -> str:
    return (
        _field(prefix + "Key", quoted(kv.key))
        + _field(prefix + "CreateRevision", kv.create_revision)
        + _field(prefix + "ModRevision", kv.mod_revision)
        + _field(prefix + "Version", kv.version)
        + _field(prefix + "Value", quoted(kv.value))
        + _field(prefix + "Lease", kv.lease)
    )


def _get(answer: Any, *_: Any) -> str:
    pairs = "".join(_key_value(kv) for kv in answer.kvs)
    return _header(answer) + pairs + _field("More", _yes(answer.more)) + _field("Count", answer.count)


def _put(answer: Any, *_: Any) -> str:
    return _header(answer) + (_key_value(answer.prev_kv, "Prev") if answer.HasField("prev_kv") else "")


def _delete(answer: Any, *_: Any) -> str:
    before = "".join(_key_value(kv, "Prev") for kv in answer.prev_kvs)
    return _header(answer) + _field("Deleted", answer.deleted) + before


def _txn(answer: Any, *_: Any) -> str:
    parts = [_header(answer), _field("Succeeded", _yes(answer.succeeded))]
    shapes = {
        "response_range": _get,
        "response_put": _put,
        "response_delete_range": _delete,
        "response_txn": _txn,
    }
    for one in answer.responses:
        kind = one.WhichOneof("response")
        if kind:
            parts.append(shapes[kind](getattr(one, kind)))
    return "".join(parts)


def _watch(answer: Any, *_: Any) -> str:
    parts = [_header(answer)]
    for event in answer.events:
        parts.append(_field("Type", "DELETE" if event.type else "PUT"))
        if event.HasField("prev_kv"):
            parts.append(_key_value(event.prev_kv, "Prev"))
        parts.append(_key_value(event.kv))
    return "".join(parts)


def _lease(answer: Any, *_: Any) -> str:
    return _header(answer) + _field("ID", answer.ID) + _field("TTL", answer.TTL)


def _time_to_live(answer: Any, *_: Any) -> str:
    keys = "".join(_field("Key", quoted(key)) for key in answer.keys)
    return _lease(answer) + _field("GrantedTTL", answer.grantedTTL) + keys


def _leases(answer: Any, *_: Any) -> str:
    return _header(answer) + "".join(_field("ID", lease.ID) for lease in answer.leases)


def _member_list(answer: Any, *_: Any) -> str:
    parts = [_header(answer)]
    for member in answer.members:
        parts.append(_field("ID", member.ID) + _field("Name", quoted(member.name)))
        parts += [_field("PeerURL", quoted(url)) for url in member.peerURLs]
        parts += [_field("ClientURL", quoted(url)) for url in member.clientURLs]
        parts.append(_field("IsLearner", _yes(member.isLearner)) + "\n")
    return "".join(parts)


def _health(answers: Any, *_: Any) -> str:
    return "".join(
        _field("Endpoint", quoted(one.endpoint))
        + _field("Health", _yes(one.healthy))
        + _field("Took", one.took)
        + _field("Error", one.error)
        + "\n"
        for one in answers
    )


def _status(answers: Any, *_: Any) -> str:
    return "".join(
        _header(status)
        + _field("Version", quoted(status.version))
        + _field("DBSize", status.dbSize)
        + _field("Leader", status.leader)
        + _field("IsLearner", _yes(status.isLearner))
        + _field("RaftIndex", status.raftIndex)
        + _field("RaftTerm", status.raftTerm)
        + _field("RaftAppliedIndex", status.raftAppliedIndex)
        + _field("Errors", f"[{' '.join(quoted(text) for text in status.errors)}]")
        + _field("Endpoint", quoted(where))
        + "\n"
        for where, status in answers
    )


def _hashkv(answers: Any, *_: Any) -> str:
    return "".join(
        _header(one) + _field("Endpoint", quoted(where)) + _field("Hash", one.hash) + "\n"
        for where, one in answers
    )


def _alarm(answer: Any, *_: Any) -> str:
    parts = [_header(answer)] if answer.HasField("header") else []
    for alarm in answer.alarms:
        parts.append(_field("MemberID", alarm.memberID) + _field("AlarmType", _ALARMS[alarm.alarm]) + "\n")
    return "".join(parts)


def _role_get(answer: Any, *_: Any) -> str:
    parts = [_header(answer)]
    for permission in answer.perm:
        parts.append(_field("PermType", " " + _PERMISSIONS[permission.permType]))
        parts.append(_field("Key", quoted(permission.key)) + _field("RangeEnd", quoted(permission.range_end)))
    return "".join(parts)


def _role_list(answer: Any, *_: Any) -> str:
    return _header(answer) + '"Roles" :' + "".join(f" {quoted(role)}" for role in answer.roles) + "\n"


def _only_header(answer: Any, *_: Any) -> str:
    return _header(answer)


def _db_status(answer: Any, *_: Any) -> str:
    return (
        _field("Hash", answer.hash)
        + _field("Revision", answer.revision)
        + _field("Keys", answer.total_key)
        + _field("Size", answer.total_size)
    )


_SHAPES: Final[dict[str, Callable[..., str]]] = {
    "get": _get, "put": _put, "delete": _delete, "txn": _txn, "watch": _watch, "grant": _lease,
    "keep_alive": _lease, "time_to_live": _time_to_live, "leases": _leases, "revoke": _only_header,
    "member_list": _member_list, "health": _health, "status": _status, "hashkv": _hashkv, "alarm": _alarm,
    "db_status": _db_status, "role_get": _role_get, "role_list": _role_list, "role_add": _only_header,
    "role_delete": _only_header, "role_grant": _only_header, "role_revoke": _only_header,
    "user_add": _only_header, "user_delete": _only_header, "user_passwd": _only_header,
    "user_grant": _only_header, "user_revoke": _only_header,
}  # fmt: skip


class FieldsPrinter:
    """See the module's text."""

    format = "fields"

    def __init__(self, hexadecimal: bool) -> None:
        self.value_only = False

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        shape = _SHAPES.get(kind)
        if shape is None:
            raise unsupported("fields")
        write(shape(answer))
