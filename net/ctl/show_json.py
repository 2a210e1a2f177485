"""``--write-out=json``: answers as Go's encoder writes etcd's structures.

Fields have their names in the protocol and are left out when empty; numbers are numbers, bytes are Base64,
enums are numbers. A few answers are not the protocol's messages but the client library's own structures.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

from .context import write

__all__ = ["JsonPrinter", "message_json"]

_CPP_MESSAGE: Final = 10
_CPP_STRING: Final = 9
_TYPE_BYTES: Final = 12
_ESCAPED: Final = re.compile("[<>&\u2028\u2029]")


def _text(value: str) -> str:
    plain = value.encode("utf-8", "replace").decode()
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(plain, ensure_ascii=False))


def _bytes(value: bytes) -> str:
    return f'"{b64encode(value).decode()}"'


def _value(field: Any, value: Any) -> str:
    if field.cpp_type == _CPP_MESSAGE:
        return message_json(value)
    if field.type == _TYPE_BYTES:
        return _bytes(value)
    if field.cpp_type == _CPP_STRING:
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _members(message: Any) -> list[str]:
    """The fields that are set, as ``"name":value``."""
    parts = []
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None:
            if message.WhichOneof(oneof.name) == field.name:
                go_name = "".join(word.capitalize() for word in field.name.split("_"))
                shown = _value(field, getattr(message, field.name))
                parts.append(f'"{oneof.name.capitalize()}":{{"{go_name}":{shown}}}')
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
            if values:
                parts.append(f'"{field.name}":[{",".join(_value(field, one) for one in values)}]')
        elif field.cpp_type == _CPP_MESSAGE:
            if message.HasField(field.name):
                parts.append(f'"{field.name}":{message_json(getattr(message, field.name))}')
        elif value := getattr(message, field.name):
            parts.append(f'"{field.name}":{_value(field, value)}')
    return parts


def message_json(message: Any) -> str:
    """A protobuf message as one JSON object."""
    return "{" + ",".join(_members(message)) + "}"


def _headed(answer: Any, *members: str) -> str:
    """The header's fields and others side by side."""
    return "{" + ",".join([*_members(answer.header), *members]) + "}"


def _watch(answer: Any, *_: Any) -> str:
    events = ",".join(message_json(event) for event in answer.events)
    return (
        f'{{"Header":{message_json(answer.header)},"Events":[{events}],'
        f'"CompactRevision":{answer.compact_revision},"Canceled":{_yes(answer.canceled)},'
        f'"Created":{_yes(answer.created)}}}'
    )


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _grant(answer: Any, *_: Any) -> str:
    return _headed(answer, f'"ID":{answer.ID}', f'"TTL":{answer.TTL}', f'"Error":{_text(answer.error)}')


def _keep_alive(answer: Any, *_: Any) -> str:
    return _headed(answer, f'"ID":{answer.ID}', f'"TTL":{answer.TTL}')


def _time_to_live(answer: Any, *_: Any) -> str:
    keys = f"[{','.join(_bytes(key) for key in answer.keys)}]" if answer.keys else "null"
    return _headed(
        answer,
        f'"id":{answer.ID}',
        f'"ttl":{answer.TTL}',
        f'"granted-ttl":{answer.grantedTTL}',
        f'"keys":{keys}',
    )


def _leases(answer: Any, *_: Any) -> str:
    leases = ",".join(f'{{"id":{lease.ID}}}' for lease in answer.leases)
    return _headed(answer, f'"leases":[{leases}]')


def _per_endpoint(name: str) -> Callable[..., str]:
    def shown(answers: Any, *_: Any) -> str:
        parts = (f'{{"Endpoint":{_text(where)},"{name}":{message_json(one)}}}' for where, one in answers)
        return f"[{','.join(parts)}]"

    return shown


def _health(answers: Any, *_: Any) -> str:
    parts = []
    for one in answers:
        error = f',"error":{_text(one.error)}' if one.error else ""
        parts.append(
            f'{{"endpoint":{_text(one.endpoint)},"health":{_yes(one.healthy)},'
            f'"took":"{one.took}"{error}}}'
        )
    return f"[{','.join(parts)}]"


def _db_status(answer: Any, *_: Any) -> str:
    return (
        f'{{"hash":{answer.hash},"revision":{answer.revision},"totalKey":{answer.total_key},'
        f'"totalSize":{answer.total_size}}}'
    )


_SHAPES: Final[dict[str, Callable[..., str]]] = {
    "watch": _watch,
    "grant": _grant,
    "keep_alive": _keep_alive,
    "time_to_live": _time_to_live,
    "leases": _leases,
    "status": _per_endpoint("Status"),
    "hashkv": _per_endpoint("HashKV"),
    "health": _health,
    "db_status": _db_status,
}


class JsonPrinter:
    """See the module's text."""

    format = "json"

    def __init__(self, hexadecimal: bool) -> None:
        self.value_only = False

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        shape = _SHAPES.get(kind)
        write((shape(answer) if shape else message_json(answer)) + "\n")
