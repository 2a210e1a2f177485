"""Histories: what clients asked, what they were told, and when.

A history is a list of operations. Each has a time of invocation and, unless its outcome is unknown, a
time of return; both are integers on one observer's clock, in nanoseconds where the recording had a clock
and positions in the log where it had none. Every point of time is used once, so "A returned before B was
invoked" is never a matter of ties. The outcome is one of three: ``ok``; ``fail`` (definite: it had no
effect); ``info`` (unknown: it may take effect at any time after its invocation, or never).

Watch streams are part of a history, too: what each delivered, batch by batch.

On disk a history is JSON lines, one ``Header`` first, then one operation or watch a line, in the order in
which they were finished. Values are frozen; containers are tuples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "Answer",
    "Comparison",
    "Header",
    "History",
    "Kv",
    "Operation",
    "Outcome",
    "Request",
    "Result",
    "Txn",
    "Value",
    "Watch",
    "WatchBatch",
    "WatchEvent",
    "decode_lines",
    "encode_lines",
    "from_pairs",
]

Outcome: TypeAlias = Literal["ok", "fail", "info"]


class Kv(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key as etcd shows it. ``version`` counts the puts since ``create_revision``, from 1."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


class Comparison(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One guard of a transaction: ``target`` is value, version, create or mod, ``relation`` = != < or >."""

    key: str
    target: str
    relation: str
    operand: str | int


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step inside a transaction: ``f`` is put, get or delete."""

    f: str
    key: str
    value: str = ""
    range_end: str = ""


class Txn(msgspec.Struct, frozen=True, gc=False, tag="txn"):
    """A transaction as asked: ``then`` when every comparison holds, else ``otherwise``."""

    compare: tuple[Comparison, ...]
    then: tuple[Request, ...] = ()
    otherwise: tuple[Request, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="answer"):
    """What etcd answered.

    ``revision`` is the header's (0 inside a transaction's answers). ``kvs`` are a get's results, or the
    previous values that a put or delete was asked to return. ``count`` is a get's or delete's count, -1
    when it was not recorded. ``succeeded`` and ``answers`` belong to transactions.
    """

    revision: int = 0
    kvs: tuple[Kv, ...] = ()
    count: int = -1
    succeeded: bool | None = None
    answers: tuple[Answer, ...] = ()


Value: TypeAlias = bool | int | str | tuple[int | str | None, ...] | Txn | None
Result: TypeAlias = bool | int | str | tuple[int | str | None, ...] | Answer | None


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="op", tag_field="type"):
    """One call of one process.

    ``f`` and ``value`` are what was asked: read, write, cas (value: the pair from, to), put, append, get,
    delete, txn. ``result`` is what came back. ``returned`` is None when and only when the outcome is info.
    ``serializable`` marks a read that may be stale; ``at`` is the past revision that a get asked for (0:
    the present). ``range_end`` is etcd's: "" for one key.
    """

    process: int
    f: str
    invoke: int
    returned: int | None = None
    outcome: Outcome = "info"
    key: str = ""
    value: Value = None
    result: Result = None
    range_end: str = ""
    serializable: bool = False
    at: int = 0
    prev_kv: bool = False
    lease: int = 0
    member: str = ""  # who was asked, for the reader of a report
    error: str = ""  # the error's text when the outcome is not ok


class WatchEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One event of a watch. A delete's ``kv`` carries the key and the revision of the deletion only."""

    f: Literal["put", "delete"]
    kv: Kv
    prev: Kv | None = None


class WatchBatch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One response of a watch stream. Without events it is a progress notification."""

    time: int
    revision: int  # the header's
    events: tuple[WatchEvent, ...] = ()


class Watch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="watch", tag_field="type"):
    """One watch from its creation to its end: what was asked and every batch in the order of arrival.

    ``start_revision`` 0 means from ``created_revision`` + 1 on. ``compact_revision`` is set when the server
    cancelled the watch because its start had been compacted.
    """

    process: int
    key: str
    invoke: int
    range_end: str = ""
    start_revision: int = 0
    created_revision: int = 0
    prev_kv: bool = False
    filters: tuple[Literal["put", "delete"], ...] = ()  # kinds of event that are NOT wanted
    batches: tuple[WatchBatch, ...] = ()
    compact_revision: int = 0
    member: str = ""


class Header(msgspec.Struct, frozen=True, omit_defaults=True, tag="history", tag_field="type"):
    """The first line of a file: which model checks it, and what is known of the store at the start.

    ``closed`` says that nobody else wrote to the store, so every revision must be accounted for. ``healed``
    is the time from which on nothing was broken any more; 0: not known. ``fast_clocks`` is the share by which
    the members' clocks may have run fast, 1 when they may have leapt anywhere. ``compactions`` are the times
    at which one was asked for, and its revision. ``offices`` are the times at which a leader took office, and
    ``handover_seconds`` what of a lease's counted time each of these may cost; 0: all of it.
    """

    model: str = "etcd"
    format: int = 1
    start_revision: int = 1  # the store's revision before the first operation
    closed: bool = True
    seed: int | None = None
    healed: int = 0
    fast_clocks: float = 0.0
    compactions: tuple[tuple[int, int], ...] = ()
    offices: tuple[int, ...] = ()
    handover_seconds: float = 0.0


class History(msgspec.Struct, frozen=True):
    """A whole recording."""

    operations: tuple[Operation, ...]
    watches: tuple[Watch, ...] = ()
    header: Header = Header()

    def __len__(self) -> int:
        return len(self.operations)


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Header | Operation | Watch] = msgspec.json.Decoder(Header | Operation | Watch)


def encode_lines(history: History) -> bytes:
    """The history as JSON lines, header first."""
    return _encoder.encode_lines((history.header, *history.operations, *history.watches))


def decode_lines(data: bytes) -> History:
    """Read what ``encode_lines`` wrote. Raises ``ValueError`` naming the line that is wrong."""
    operations: list[Operation] = []
    watches: list[Watch] = []
    header = Header()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise ValueError(f"line {number}: {error}") from error
        if isinstance(item, Operation):
            _require_times(item, number)
            operations.append(item)
        elif isinstance(item, Watch):
            watches.append(item)
        else:
            header = item
    return History(tuple(operations), tuple(watches), header)


def _require_times(operation: Operation, line: int) -> None:
    if (operation.returned is None) != (operation.outcome == "info"):
        raise ValueError(f"line {line}: need a return time exactly when the outcome is known")
    if operation.returned is not None and operation.returned <= operation.invoke:
        raise ValueError(
            f"line {line}: need invoke < returned, got {operation.invoke} and {operation.returned}"
        )


def from_pairs(events: Iterable[tuple[str, int, Operation]]) -> Iterator[Operation]:
    """Pair invocations with completions; the position in the sequence becomes the time.

    Args:
        events: (kind, process, what is known so far), kind being invoke, ok, fail or info.

    Yields the operations in the order of completion, those without one last. A process has at most one
    operation open, except after an info, whose operation stays open for ever.

    Raises:
        ValueError: a completion without an invocation, or two invocations of one process.
    """
    pending: dict[int, tuple[int, Operation]] = {}
    for time, (kind, process, seen) in enumerate(events):
        if kind == "invoke":
            if process in pending:
                raise ValueError(f"event {time}: process {process} invokes {seen.f} while another is open")
            pending[process] = (time, seen)
            continue
        try:
            invoked, asked = pending.pop(process)
        except KeyError:
            raise ValueError(f"event {time}: process {process} completes nothing") from None
        if asked.f != seen.f:
            raise ValueError(f"event {time}: process {process} invoked {asked.f} and completed {seen.f}")
        if kind == "info":
            yield msgspec.structs.replace(asked, invoke=invoked, error=seen.error)
        else:
            yield msgspec.structs.replace(
                asked,
                invoke=invoked,
                returned=time,
                outcome="ok" if kind == "ok" else "fail",
                result=seen.result,
                error=seen.error,
            )
    for invoked, asked in pending.values():
        yield msgspec.structs.replace(asked, invoke=invoked)
