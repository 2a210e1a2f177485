"""What a watch stream promises, by etcd's own names, against the order of writes that the history proves.

Ordered: revisions never go back. Unique: no event twice. Atomic: all of a revision's events in one batch.
Reliable: nothing between the start and the last thing heard is missing. Resumable: a watch from a past
revision starts right there. Bookmarkable: a progress notification of revision R comes after every event up
to R. With prev_kv, is_create and filters right.

The reference is a replay of the answered writes and of what the search decided for unclaimed revisions.
Where it had a choice (equal unknown writes that no answer tells apart) a watch event has already decided,
since events are evidence in ``etcd_facts``.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..history import Header, History, Operation, Watch, WatchBatch, WatchEvent
from .etcd import EtcdCheck
from .etcd_store import Store, Version, execute, in_range, text_of
from .verdict import Verdict

__all__ = ["Change", "changes", "check_watches"]


class Change(msgspec.Struct, frozen=True, gc=False):
    """One key changed by one revision; None is absence."""

    revision: int
    key: str
    before: Version | None
    after: Version | None
    operation: Operation | None = None


def changes(found: EtcdCheck) -> list[Change]:
    """Every change of every key in the order of revisions, as a valid check established it."""
    facts = found.facts
    assert facts is not None, "a valid check keeps its facts"
    store: Store = {}
    log: list[Change] = []
    for revision in range(facts.start + 1, facts.last + 1):
        operation = facts.written.get(revision) or found.gaps.get(revision)
        if operation is None:
            continue
        effects, _ = execute(operation, store, revision)
        for key, after in effects:
            log.append(Change(revision, key, store.get(key), after, operation))
            if after is None:
                del store[key]
            else:
                store[key] = after
    return log


def check_watches(history: History, found: EtcdCheck) -> Verdict:
    """Check every watch of a history whose operations were found valid."""
    log = changes(found)
    # In a store with other writers a watch may tell what no operation did.
    for watch in history.watches:
        broken = next(_violations(watch, log, history.header), None)
        if broken is not None:
            promise, text, change = broken
            core = (change.operation,) if change is not None and change.operation is not None else ()
            return Verdict(
                verdict="invalid",
                checker="watch",
                reason=f"the watch of process {watch.process} on {watch.key!r} is not {promise}: {text}",
                core=core,
                total=len(history.watches),
                checked=history.watches.index(watch),
            )
    return Verdict(verdict="valid", checker="watch", checked=len(history.watches), total=len(history.watches))


_Violation = tuple[str, str, Change | None]


def _violations(watch: Watch, log: list[Change], header: Header) -> Iterator[_Violation]:
    yield from _order(watch)
    yield from _bookmarks(watch)
    yield from _against_the_log(watch, log, header)


def _order(watch: Watch) -> Iterator[_Violation]:
    last, finished = 0, 0
    told: set[tuple[int, str]] = set()
    for batch in watch.batches:
        for event in batch.events:
            revision = event.kv.mod_revision
            if (revision, event.kv.key) in told:
                yield "unique", f"{event.kv.key!r} at revision {revision} came twice", None
            told.add((revision, event.kv.key))
            if revision < last:
                yield "ordered", f"revision {revision} came after {last}", None
            if revision <= finished:
                yield "atomic", f"revision {revision} came in two batches", None
            last = max(last, revision)
        finished = last


def _bookmarks(watch: Watch) -> Iterator[_Violation]:
    promised = 0
    for batch in watch.batches:
        for event in batch.events:
            if event.kv.mod_revision <= promised:
                yield (
                    "bookmarkable",
                    (f"an event of revision {event.kv.mod_revision} came after progress to {promised}"),
                    None,
                )
        if not batch.events:
            promised = max(promised, batch.revision)


def _compacted_by(header: Header, time: int) -> int:
    """The highest revision whose compaction may have happened by then."""
    return max((revision for asked, revision in header.compactions if asked < time), default=0)


def _against_the_log(watch: Watch, log: list[Change], header: Header) -> Iterator[_Violation]:
    first = watch.start_revision or watch.created_revision + 1
    heard = max((_heard(batch) for batch in watch.batches), default=0)
    expected = [
        change
        for change in log
        if first <= change.revision <= heard
        and in_range(change.key, watch.key, watch.range_end)
        and ("delete" if change.after is None else "put") not in watch.filters
    ]
    by_place = {(change.revision, change.key): change for change in expected}
    delivered: set[tuple[int, str]] = set()
    for batch in watch.batches:
        for event in batch.events:
            place = (event.kv.mod_revision, event.kv.key)
            delivered.add(place)
            if event.kv.mod_revision < first:
                yield "resumable", f"an event of revision {place[0]} came, it starts at {first}", None
                continue
            if event.f in watch.filters:
                yield "filtered", f"a {event.f} came that was not wanted", None
                continue
            change = by_place.get(place)
            if change is None:
                if header.closed:
                    yield (
                        "reliable",
                        f"an event of {place[1]!r} at revision {place[0]} which nobody made",
                        None,
                    )
                continue
            forgotten = place[0] <= _compacted_by(header, batch.time) and event.prev is None
            yield from _event(event, change, watch.prev_kv and not forgotten)
    for change in expected:
        if (change.revision, change.key) not in delivered:
            yield (
                "reliable",
                (f"{change.key!r} at revision {change.revision} is missing, revision {heard} was heard"),
                change,
            )


def _heard(batch: WatchBatch) -> int:
    """Up to which revision a batch settles everything: its last event, or the progress it notifies."""
    return batch.events[-1].kv.mod_revision if batch.events else batch.revision


def _event(event: WatchEvent, change: Change, prev_kv: bool) -> Iterator[_Violation]:
    """One event against what happened. What was before it may be left out once that is compacted."""
    kv = event.kv
    if (event.f == "delete") != (change.after is None):
        yield (
            "reliable",
            f"a {event.f} of {kv.key!r} at revision {kv.mod_revision} was told, it was the other",
            change,
        )
        return
    if change.after is not None:
        shown = (kv.value, kv.create_revision, kv.mod_revision, kv.version)
        if shown != change.after[:4]:
            created = kv.create_revision == kv.mod_revision
            promise = "right about is_create" if created != (change.before is None) else "reliable"
            yield (
                promise,
                f"{kv.key!r} came as {text_of((*shown, 0))}, it was {text_of(change.after)}",
                change,
            )
    if prev_kv:
        before = event.prev
        told = (
            None
            if before is None
            else (before.value, before.create_revision, before.mod_revision, before.version)
        )
        was = None if change.before is None else change.before[:4]
        if told != was:
            yield (
                "right about prev_kv",
                f"before {kv.mod_revision} {kv.key!r} came as {told}, it was {text_of(change.before)}",
                change,
            )
