"""The revision-guided check of etcd histories: strict serializability without a search, mostly.

etcd tells every client the revision of its write, or the revision its read saw, so the order is written
down and need not be guessed. Four things are checked:

1. no two writes made one revision;
2. real time: whoever was answered before another began saw a revision no higher, and strictly lower if the
   other wrote. A serializable read or a watch may be late, but what they tell had happened: they bind those
   after them;
3. replayed in that order, every answer is right: values, create and mod revisions, versions, counts, the
   outcomes of comparisons, previous values;
4. revisions that nobody claims were made by operations with unknown outcomes (``etcd_replay``).

By 2, any order by revision, writes first and reads by their invocation, respects real time; by 3 and 4 it
explains every answer. So the history is strictly serializable over all keys at once, not only key by key.
O(n log n) for n operations unless gaps without evidence must be searched.
"""

from __future__ import annotations

from operator import attrgetter

import msgspec

from ..history import Answer, History, Operation
from .etcd_facts import Contradiction, Facts, collect, revision_of
from .etcd_replay import replay
from .verdict import Limits, Meter, Verdict

__all__ = ["EtcdCheck", "check_etcd", "examine"]

_LEASE = frozenset({"grant", "keepalive"})  # not about keys
_UNPLACED = _LEASE | {"revoke"}
_by_invoke = attrgetter("invoke")
_by_return = attrgetter("returned")


class EtcdCheck(msgspec.Struct, frozen=True):
    """A verdict with what was found on the way: who made which revision (for checking watches)."""

    verdict: Verdict
    facts: Facts | None = None
    gaps: dict[int, Operation | None] = {}


def check_etcd(history: History, limits: Limits | None = None) -> Verdict:
    """Check a history of put, get, delete, txn and revoke.

    Raises:
        ValueError: an operation that etcd does not have, or an answered one without a revision.
    """
    return examine(history, limits).verdict


def examine(history: History, limits: Limits | None = None) -> EtcdCheck:
    """Like ``check_etcd``, and keep what the search decided."""
    meter = Meter(limits or Limits())
    total = len(history.operations)
    facts = collect(history)
    if isinstance(facts, Contradiction):
        return EtcdCheck(_invalid(facts, history, meter, None))
    after = _real_time(history, facts)
    if isinstance(after, Contradiction):
        return EtcdCheck(_invalid(after, history, meter, facts), facts)
    failed = [o for o in history.operations if o.outcome == "fail"] if facts.gaps else []
    done = replay(facts, after, history.header.closed, meter, failed)
    if done.contradiction is not None:
        return EtcdCheck(_invalid(done.contradiction, history, meter, facts), facts)
    if done.limit is not None:
        verdict = Verdict(
            verdict="unknown", checker="etcd", reason=done.limit, total=total, steps=meter.steps
        )
        return EtcdCheck(verdict, facts)
    valid = Verdict(verdict="valid", checker="etcd", checked=total, total=total, steps=meter.steps)
    return EtcdCheck(valid, facts, done.order)


def _invalid(found: Contradiction, history: History, meter: Meter, facts: Facts | None) -> Verdict:
    checked = 0
    if facts is not None:
        checked = sum(1 for revision in facts.written if revision < found.revision)
        checked += sum(len(part) for revision, part in facts.reads.items() if revision < found.revision)
    unique = {id(operation): operation for operation in found.operations}
    core = tuple(sorted(unique.values(), key=_by_invoke))
    return Verdict(
        verdict="invalid",
        checker="etcd",
        reason=found.reason,
        core=core,
        checked=checked,
        total=len(history.operations),
        steps=meter.steps,
    )


def _real_time(history: History, facts: Facts) -> dict[int, int] | Contradiction:
    """Check rule 2; for each unknown operation the highest revision told before it was invoked."""
    operations = history.operations
    answered = [o for o in operations if o.outcome == "ok" and o.f not in _UNPLACED]
    returns = sorted(answered, key=_by_return)
    unknown = {id(o): number for number, o in enumerate(facts.unknown)}
    order = sorted((o for o in operations if o.outcome != "fail" and o.f not in _LEASE), key=_by_invoke)
    after: dict[int, int] = {}
    high, highest, position, count = facts.start, None, 0, len(returns)
    written = facts.written
    next_return = returns[0].returned if returns else None
    events = _told_by_watches(history)
    for operation in order:
        invoke = operation.invoke
        while next_return is not None and next_return < invoke:
            done = returns[position]
            revision = revision_of(done)
            if revision > high:
                high, highest = revision, done
            position += 1
            next_return = returns[position].returned if position < count else None
        while events and events[-1][0] < invoke:
            revision = events.pop()[1]
            if revision > high:
                high, highest = revision, None
        number = unknown.get(id(operation)) if unknown else None
        if number is not None:
            after[number] = high
            continue
        if operation.outcome == "info" or operation.serializable:
            continue
        answer = operation.result
        assert isinstance(answer, Answer)
        revision = answer.revision
        if revision < high or (revision == high and written.get(revision) is operation):
            return _too_late(operation, revision, highest, high)
    return after


def _told_by_watches(history: History) -> list[tuple[int, int]]:
    """(time, revision) of every event that a watch delivered, the latest first: each had been committed."""
    told = (
        (batch.time, batch.events[-1].kv.mod_revision)
        for watch in history.watches
        for batch in watch.batches
        if batch.events
    )
    return sorted(told, reverse=True)


def _too_late(operation: Operation, revision: int, earlier: Operation | None, high: int) -> Contradiction:
    did = "saw" if operation.f == "get" else "is at"
    before = "a watch" if earlier is None else f"the {earlier.f} of process {earlier.process}"
    operations = (operation,) if earlier is None else (earlier, operation)
    return Contradiction(
        f"the {operation.f} of process {operation.process} {did} revision {revision}, but {before} "
        f"had already been told revision {high} when it began",
        operations,
        min(revision, high),
    )
