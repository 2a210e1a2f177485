"""What an etcd history says by itself: which operation made which revision, and what keys looked like when.

A write that was answered names its revision. A read names the revision it saw, and every key it shows names
the revision of its last change; watch events and previous values say as much. So most of the order is
written down, and what is left to search are the revisions that nobody claims: *gaps*.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from ..history import Answer, History, Kv, Operation, Txn, Watch

__all__ = ["Contradiction", "Fact", "Facts", "collect", "revision_of", "writes"]


_KINDS = frozenset({"put", "get", "delete", "txn", "revoke"})
_ELSEWHERE = frozenset({"grant", "keepalive"})  # not about keys: checkers.lease


class Contradiction(msgspec.Struct, frozen=True):
    """Why a history cannot be: the sentence, and the operations it speaks of."""

    reason: str
    operations: tuple[Operation, ...] = ()
    revision: int = 0


# At a revision a key was (create, mod, version), or was absent: (0, 0, 0).
Fact: TypeAlias = tuple[int, int, int, int]


class Facts:
    """The placed operations and everything observed.

    ``written`` maps revisions to the answered writes that made them; ``reads`` maps revisions to the answered
    operations whose answer must fit the store at that revision. ``evidence`` maps revisions in gaps to what
    changed then: key to value, or to None for a deletion. ``by_key`` has, for each key, all facts sorted.
    """

    __slots__ = ("by_key", "evidence", "gaps", "known_by_key", "last", "reads", "start", "unknown", "written")

    def __init__(self, start: int) -> None:
        self.start = start
        self.last = start
        self.written: dict[int, Operation] = {}
        self.reads: dict[int, list[Operation]] = {}
        self.unknown: list[Operation] = []
        self.evidence: dict[int, dict[str, str | None]] = {}
        self.by_key: dict[str, list[Fact]] = {}
        self.known_by_key: dict[str, list[int]] = {}
        self.gaps: list[int] = []

    def next_fact(self, key: str, revision: int) -> Fact | None:
        """The first fact about the key at or after a revision."""
        facts = self.by_key.get(key)
        if not facts:
            return None
        position = bisect_left(facts, (revision,))
        return facts[position] if position < len(facts) else None

    def known_writes(self, key: str, low: int, high: int) -> int:
        """How many answered writes touched the key at revisions low..high."""
        revisions = self.known_by_key.get(key, [])
        return bisect_left(revisions, high + 1) - bisect_left(revisions, low)

    def gaps_between(self, low: int, high: int) -> int:
        """How many unclaimed revisions there are in low..high."""
        return bisect_left(self.gaps, high + 1) - bisect_left(self.gaps, low)


def revision_of(operation: Operation) -> int:
    """The header's revision of an answered operation."""
    if not isinstance(operation.result, Answer) or operation.result.revision <= 0:
        raise ValueError(
            f"an answered {operation.f} needs etcd's answer with a revision, got {operation.result!r}"
        )
    return operation.result.revision


def writes(operation: Operation) -> bool:
    """Whether an answered operation made a revision of its own."""
    f = operation.f
    if f == "put":
        return True
    if f == "delete":
        return isinstance(operation.result, Answer) and operation.result.count > 0
    if f == "txn":
        answer, txn = operation.result, operation.value
        if not isinstance(answer, Answer) or not isinstance(txn, Txn):
            raise ValueError(f"a txn needs a transaction and etcd's answer, got {txn!r} and {answer!r}")
        requests = txn.then if answer.succeeded else txn.otherwise
        if len(requests) != len(answer.answers):
            raise ValueError(
                f"a txn of {len(requests)} steps needs as many answers, got {len(answer.answers)}"
            )
        return any(
            request.f == "put" or (request.f == "delete" and part.count > 0)
            for request, part in zip(requests, answer.answers, strict=True)
        )
    return False


def collect(history: History) -> Facts | Contradiction:
    """Place everything that names its place. A contradiction when two writes made one revision."""
    facts = Facts(history.header.start_revision)
    written, reads = facts.written, facts.reads
    for operation in history.operations:
        if operation.f in _ELSEWHERE:
            continue
        if operation.f not in _KINDS:
            raise ValueError(f"an etcd store has no operation {operation.f!r}")
        if operation.outcome != "ok":
            if operation.outcome == "info" and operation.f != "get":
                facts.unknown.append(operation)
            continue
        if operation.f == "revoke":  # only a replay knows whether keys hung on the lease
            facts.unknown.append(operation)
            continue
        revision = revision_of(operation)
        if operation.f == "put" or (operation.f != "get" and writes(operation)):
            other = written.setdefault(revision, operation)
            if other is not operation:
                return Contradiction(f"two writes made revision {revision}", (other, operation), revision)
        else:
            reads.setdefault(operation.at or revision, []).append(operation)
        if revision > facts.last:
            facts.last = revision
    _observe(history, facts)
    return facts


def _observe(history: History, facts: Facts) -> None:
    """Collect facts and evidence when some revision is unclaimed; otherwise a replay needs neither."""
    for watch in history.watches:
        for batch in watch.batches:
            for event in batch.events:
                facts.last = max(facts.last, event.kv.mod_revision)
    written = facts.written
    if len(written) == facts.last - facts.start and all(r > facts.start for r in written):
        return
    facts.gaps = [r for r in range(facts.start + 1, facts.last + 1) if r not in written]
    found: dict[str, set[Fact]] = {}
    for revision in sorted(written):
        _observe_operation(written[revision], revision, facts, found)
    for revision, operations in sorted(facts.reads.items()):
        for operation in operations:
            _observe_operation(operation, revision, facts, found)
    for watch in history.watches:
        _observe_watch(watch, facts, found)
    facts.by_key = {key: sorted(seen) for key, seen in found.items()}
    for revisions in facts.known_by_key.values():
        revisions.sort()


def _observe_operation(
    operation: Operation, revision: int, facts: Facts, found: dict[str, set[Fact]]
) -> None:
    answer = operation.result
    assert isinstance(answer, Answer)
    if operation.f == "put":
        facts.known_by_key.setdefault(operation.key, []).append(revision)
        if operation.prev_kv:
            _see(answer.kvs, revision - 1, facts, found, operation.key)
    elif operation.f == "get":
        _see(
            answer.kvs,
            revision,
            facts,
            found,
            "" if operation.range_end or answer.count > 0 else operation.key,
        )
    elif operation.f == "delete":
        wrote = answer.count > 0
        if not operation.range_end:
            found.setdefault(operation.key, set()).add((revision, 0, 0, 0))
            if wrote:
                facts.known_by_key.setdefault(operation.key, []).append(revision)
        _see(answer.kvs, revision - 1 if wrote else revision, facts, found, "")
    elif isinstance(operation.value, Txn):
        requests = operation.value.then if answer.succeeded else operation.value.otherwise
        for request, part in zip(requests, answer.answers, strict=True):
            if request.f == "put":
                facts.known_by_key.setdefault(request.key, []).append(revision)
            elif request.f == "get":
                _see(
                    part.kvs,
                    revision,
                    facts,
                    found,
                    "" if request.range_end or part.count > 0 else request.key,
                )


def _see(kvs: Iterable[Kv], revision: int, facts: Facts, found: dict[str, set[Fact]], alone: str) -> None:
    """Note what keys were at a revision; ``alone`` is the one key asked for, absent if none is shown."""
    shown = False
    for kv in kvs:
        shown = True
        found.setdefault(kv.key, set()).add((revision, kv.create_revision, kv.mod_revision, kv.version))
        if kv.mod_revision not in facts.written:
            facts.evidence.setdefault(kv.mod_revision, {})[kv.key] = kv.value
    if alone and not shown:
        found.setdefault(alone, set()).add((revision, 0, 0, 0))


def _observe_watch(watch: Watch, facts: Facts, found: dict[str, set[Fact]]) -> None:
    for batch in watch.batches:
        for event in batch.events:
            revision = event.kv.mod_revision
            if event.f == "put":
                _see((event.kv,), revision, facts, found, "")
            else:
                found.setdefault(event.kv.key, set()).add((revision, 0, 0, 0))
                if revision not in facts.written:
                    facts.evidence.setdefault(revision, {})[event.kv.key] = None
            if event.prev is not None:
                _see((event.prev,), revision - 1, facts, found, "")
