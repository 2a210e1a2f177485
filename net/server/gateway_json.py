"""Protobuf messages as the JSON that etcd's gateway speaks, both ways.

The rules are those of Go's jsonpb as the gateway sets it up, which differ from ``json_format`` in what
they accept and in every error text: 64-bit integers are strings on the way out and strings or numbers on
the way in, bytes are strict base64, fields go by their protobuf name or by lowerCamelCase, unknown fields
are skipped, null leaves a field alone, fields that are zero are left out, the order is that of the field
numbers, and <, > and & are escaped.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from .json_complaint import json_complaint

__all__ = ["DEPTH_MAX", "InputError", "documents", "dumps", "from_json", "to_json"]

#: Nested objects deeper than this are refused: transactions may nest, but not without end.
DEPTH_MAX: Final = 100

_SIGNED_64: Final = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64)
_UNSIGNED_64: Final = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
_UNSIGNED_32: Final = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32)
_BOUNDS: Final = {
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint8": (0, 255),
}
_ESCAPES: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026",
                                 "\u2028": "\\u2028", "\u2029": "\\u2029"})


class InputError(ValueError):
    """The body is not the JSON of the message; the text is Go's."""


def documents(text: str) -> Iterator[Any]:
    """The JSON values that stand one after the other in a body; ``InputError`` at the first bad one."""
    at = 0

    decoder = json.JSONDecoder(parse_constant=_no_json, parse_float=_Float)
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at >= len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            raise InputError(json_complaint(text, at) or "unexpected EOF") from None
        except ValueError:  # Python's bound on the digits of an integer
            raise InputError(_TOO_LONG) from None
        except RecursionError:
            raise InputError("exceeded max depth") from None
        yield value


def _no_json(constant: str) -> None:
    """``NaN`` and the infinities are JSON to Python alone."""
    raise json.JSONDecodeError(constant, constant, 0)


def from_json(message_class: type[Message], value: Any) -> Message:
    """Build a message from a parsed JSON value; raises ``InputError``."""
    message = message_class()
    _fill(message, value, DEPTH_MAX)
    return message


def _fill(message: Message, value: Any, depth: int) -> None:
    if depth == 0:
        raise InputError("exceeded max depth")
    if value is None:
        return
    if not isinstance(value, dict):
        raise _mismatch(value, "map[string]json.RawMessage")
    for field, names in _fields(message):
        item = next((value[name] for name in names if name in value), None)
        if item is not None:
            _set(message, field, item, depth)


_FIELDS: dict[str, list[tuple[FieldDescriptor, tuple[str, ...]]]] = {}


def _fields(message: Message) -> list[tuple[FieldDescriptor, tuple[str, ...]]]:
    """A message's fields in Go's order, each with its names: the one that goes first if several are given."""
    descriptor = message.DESCRIPTOR
    known = _FIELDS.get(descriptor.full_name)
    if known is None:
        known = _FIELDS[descriptor.full_name] = [
            (field, tuple(dict.fromkeys((field.json_name, _camel(field.name), field.name))))
            for field in sorted(cast(Sequence[FieldDescriptor], descriptor.fields), key=_is_one_of_many)
        ]
    return known


def _is_one_of_many(field: FieldDescriptor) -> bool:
    """Go reads what belongs to a ``oneof`` last."""
    return field.containing_oneof is not None


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _set(message: Message, field: FieldDescriptor, value: Any, depth: int) -> None:
    if not field.is_repeated:
        if field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            _fill(inner, value, depth - 1)
        else:
            setattr(message, field.name, _scalar(field, value))
        return
    if not isinstance(value, list):
        raise _mismatch(value, "[]json.RawMessage")
    target = getattr(message, field.name)
    for item in value:
        if field.message_type is not None:
            _fill(target.add(), item, depth - 1)
        else:
            target.append(_scalar(field, item))


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_BYTES:
        return _bytes(value)
    if kind == FieldDescriptor.TYPE_STRING:
        if not isinstance(value, str):
            raise _mismatch(value, "string")
        return _clean(value)
    if kind == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise _mismatch(value, "bool")
        return value
    if kind == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None, field.full_name
        return _enum(field.enum_type, value)
    return _integer(_go_name(field), value)


def _clean(text: str) -> str:
    """The text without the lone surrogates that JSON's escapes can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _go_name(field: FieldDescriptor) -> str:
    if field.type in _SIGNED_64:
        return "int64"
    if field.type in _UNSIGNED_64:
        return "uint64"
    return "uint32" if field.type in _UNSIGNED_32 else "int32"


def _bytes(value: Any) -> bytes:
    if isinstance(value, list):
        return bytes(_integer("uint8", item) for item in value)
    if not isinstance(value, str):
        raise _mismatch(value, "[]uint8")
    text = value.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        where = _bad_base64_at(value.encode("utf-8", "replace"))
        raise InputError(f"illegal base64 data at input byte {where}") from None


def _bad_base64_at(text: bytes) -> int:
    """Where Go says the damage is, which reads four characters at a time, and no line breaks."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    count = 0  # of the group's characters that have been read
    for at, character in enumerate(text):
        if character in b"\r\n":
            continue
        if character in alphabet:
            count = (count + 1) % 4
            continue
        if character != b"="[0] or count < 2:
            return at
        rest = text[at + 1 :].lstrip(b"\r\n")
        if count == 3:
            return len(text) - len(rest)
        if not rest:
            return len(text)
        return at if rest[:1] != b"=" else len(text) - len(rest[1:].lstrip(b"\r\n"))
    return len(text) - count


def _enum(enum: EnumDescriptor, value: Any) -> int:
    if isinstance(value, str):
        value = _clean(value)
        known = enum.values_by_name.get(value)
        if known is None:
            raise InputError(f'unknown value "{value}" for enum {_go_type(enum)}')
        return known.number
    return _integer("int32", value, _go_type(enum))


def _go_type(enum: EnumDescriptor) -> str:
    """``etcdserverpb.RangeRequest_SortOrder``: the enum's name in Go."""
    package = enum.file.package
    return f"{package}.{enum.full_name.removeprefix(package + '.').replace('.', '_')}"


def _integer(kind: str, value: Any, go_type: str = "") -> int:
    """A number, or one in a string. ``go_type``: what complaints call it, where that is not ``kind``."""
    go_type = go_type or kind
    if isinstance(value, str) and kind != "uint8":
        try:
            value = json.loads(value, parse_float=_Float, parse_constant=_no_json)
        except ValueError:
            raise InputError(json_complaint(value, alone=True) or _TOO_LONG) from None
        except RecursionError:
            raise InputError("exceeded max depth") from None
        if value is None:
            return 0
    if isinstance(value, float):
        raise InputError(f"json: cannot unmarshal number {value} into Go value of type {go_type}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(value, go_type)
    low, high = _BOUNDS[kind]
    if not low <= value <= high:
        raise InputError(f"json: cannot unmarshal number {value} into Go value of type {go_type}")
    return value


_TOO_LONG = "json: number with too many digits"


class _Float(float):
    """A number that is no integer; shown as it was written."""

    def __new__(cls, text: str) -> _Float:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str

    def __str__(self) -> str:
        return self.text


def _mismatch(value: Any, go_type: str) -> InputError:
    match value:
        case bool():
            name = "bool"
        case int() | float():
            name = "number"
        case str():
            name = "string"
        case list():
            name = "array"
        case _:
            name = "object"
    return InputError(f"json: cannot unmarshal {name} into Go value of type {go_type}")


def to_json(message: Message) -> str:
    """The message as compact JSON text."""
    return dumps(_object(message))


def dumps(value: Any) -> str:
    """Compact JSON, escaped as Go escapes it for HTML."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)


def _object(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            found[field.name] = [_value(field, item) for item in value]
        else:
            found[field.name] = _value(field, value)
    return found


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _object(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None, field.full_name
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.type in _SIGNED_64 or field.type in _UNSIGNED_64:
        return str(value)
    return value
