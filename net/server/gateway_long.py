"""Long answers as JSON, a piece at a time.

Turning an answer of a million keys into JSON takes many seconds, and parsing it alone keeps everything else
waiting. So a long message is not parsed: its fields are walked as they lie in its bytes, and so many
neighbours as make a piece are converted together, each piece as ``gateway_json`` would. A field that is a
large message itself is walked in turn.

This relies on what the members write: fields come in the order of their numbers, and those of one repeated
field together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from .gateway_calls import decode
from .gateway_json import to_json

__all__ = ["PIECE_BYTES", "json_pieces"]

#: Bytes of a message that are converted at once, about; a few milliseconds of work.
PIECE_BYTES: Final = 128 << 10

_VARINT, _BYTES = 0, 2


def json_pieces(message_class: type[Message], data: memoryview) -> Iterator[str]:
    """The text of ``gateway_json.to_json``, in pieces, of a serialised message.

    Raises:
        DecodeError: these bytes are no such message.
    """
    if len(data) <= PIECE_BYTES:
        yield to_json(decode(message_class, bytes(data)))
        return
    fields = cast("Mapping[int, FieldDescriptor]", message_class.DESCRIPTOR.fields_by_number)
    before, listed = 0, False  # the number of the field written last, and whether its list is still open
    yield "{"
    for field, begin, content, end in _runs(fields, data):
        number = field.number
        if number != before:
            yield ("]," if listed else "," if before else "") + _opening(field)
        else:
            yield ","
        before, listed = number, bool(field.is_repeated)
        if content:
            assert field.message_type is not None
            yield from json_pieces(GetMessageClass(field.message_type), data[content:end])
        else:
            text = to_json(decode(message_class, bytes(data[begin:end])))
            yield text[1 + len(_opening(field)) : -2 if listed else -1]
    yield "]}" if listed else "}"


def _opening(field: FieldDescriptor) -> str:
    return f'"{field.name}":[' if field.is_repeated else f'"{field.name}":'


def _runs(
    fields: Mapping[int, FieldDescriptor], data: memoryview
) -> Iterator[tuple[FieldDescriptor, int, int, int]]:
    """Runs of one field that make a piece: the field, where they begin and end, and 0.

    A message larger than a piece comes alone, and instead of 0 where its content begins.
    """
    run: FieldDescriptor | None = None
    begin = at = 0
    while at < len(data):
        tag, content = _varint(data, at)
        field, end = fields.get(tag >> 3), content
        if tag & 7 == _BYTES:
            size, content = _varint(data, content)
            end = content + size
        elif tag & 7 == _VARINT:
            _, end = _varint(data, content)
        if end > len(data) or tag & 7 not in (_BYTES, _VARINT):
            raise DecodeError(f"field {tag >> 3} of a message cannot be read")
        alone = field is not None and field.message_type is not None and end - content > PIECE_BYTES
        if run is not None and (field is not run or alone or end - begin > PIECE_BYTES):
            yield run, begin, 0, at
            run = None
        if alone and field is not None:
            yield field, at, content, end
        elif run is None:
            run, begin = field, at
        at = end
    if run is not None:
        yield run, begin, 0, at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    number = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise DecodeError("a message ends in the middle of a number")
