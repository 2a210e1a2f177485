"""Replay a store in the order of its revisions, and search for who made the revisions that nobody claims.

Answered writes stand at their revisions; every answer is compared with the replayed store. A revision in a
gap was made by an operation whose outcome is unknown, each used once and only if nothing that returned
before its invocation saw that revision or a later one. Mostly there is evidence (somebody saw the key with
that revision) and one candidate. Where there is none, candidates that a later observation rules out are not
tried, those that one calls for are tried first, and puts that no one could tell apart count as one. Going
back undoes the replay to the last choice. In a store that is not closed, strangers may fill gaps, too.

Revisions left of the last one seen need no search: an unknown operation that nobody noticed may have
happened later, or never.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..history import Operation, Txn
from .etcd_facts import Contradiction, Facts
from .etcd_store import Effects, Store, Version, execute, text_of
from .verdict import Meter

__all__ = ["Replay", "replay"]


class Replay(msgspec.Struct, frozen=True):
    """The outcome: one of ``limit`` (unknown, in words) and ``contradiction`` is set, or neither (valid).

    ``order`` says which unknown operation made each gap's revision (None: a stranger).
    """

    contradiction: Contradiction | None = None
    limit: str | None = None
    order: dict[int, Operation | None] = {}


def replay(
    facts: Facts, after: dict[int, int], closed: bool, meter: Meter, failed: list[Operation]
) -> Replay:
    """Replay the whole history.

    Args:
        after: for each unknown operation (by position in ``facts.unknown``) the highest revision that had
            been seen when it was invoked; it can only have made a later one.
        closed: nobody outside the history wrote.
        failed: operations that claim to have had no effect, to name the culprit if one had.
    """
    return _Replayer(facts, after, closed, meter, failed).run()


class _Choice:
    """A gap at which something was chosen: what is left to try and how to take it back."""

    __slots__ = ("candidates", "chosen", "revision", "undo")

    def __init__(self, revision: int, candidates: Iterator[tuple[int | None, Effects]], undo: int) -> None:
        self.revision = revision
        self.candidates = candidates
        self.undo = undo
        self.chosen: int | None = None


class _Replayer:
    def __init__(
        self, facts: Facts, after: dict[int, int], closed: bool, meter: Meter, failed: list[Operation]
    ) -> None:
        self.facts, self.after, self.closed, self.meter, self.failed = facts, after, closed, meter, failed
        self.store: Store = {}
        self.undo: list[tuple[str, Version | None]] = []
        self.choices: list[_Choice] = []
        self.used: dict[int, int] = {}  # unknown operation -> revision
        self.deepest: Contradiction | None = None
        self.puts: dict[str, list[int]] = {}  # unknown puts by key, earliest possible first
        self.rest: list[int] = []
        self.reserved: dict[tuple[str, str], int] = {}
        self.compared = _compared_keys(facts)
        for number in sorted(range(len(facts.unknown)), key=lambda n: (after[n], n)):
            operation = facts.unknown[number]
            if operation.f == "put":
                self.puts.setdefault(operation.key, []).append(number)
            else:
                self.rest.append(number)
        for changes in facts.evidence.values():
            for key, value in changes.items():
                if value is not None:
                    self.reserved[key, value] = self.reserved.get((key, value), 0) + 1

    def run(self) -> Replay:
        revision = self.facts.start + 1
        failed_at = self._reads(self.facts.start)
        if failed_at is not None:
            return Replay(failed_at)
        while True:
            wrong = self._forward(revision)
            if wrong is None:
                made = {
                    c.revision: None if c.chosen is None else self.facts.unknown[c.chosen]
                    for c in self.choices
                }
                return Replay(order=made)
            if self.deepest is None or wrong.revision > self.deepest.revision:
                self.deepest = wrong
            if (limit := self.meter.exceeded()) is not None:
                return Replay(limit=limit)
            back = self._back(wrong.revision)
            if back is None:
                return Replay(self.deepest)
            revision = back

    def _forward(self, revision: int) -> Contradiction | None:
        """Replay from a revision to the end, choosing at gaps; the first contradiction, or None."""
        facts, store, undo = self.facts, self.store, self.undo
        written, reads = facts.written, facts.reads
        recording = bool(self.choices)
        for current in range(revision, facts.last + 1):
            operation = written.get(current)
            if operation is None:
                if not self._open(current):
                    return self._nobody(current)
                recording = True
            elif operation.f == "put" and not operation.prev_kv:
                key = operation.key
                before = store.get(key)
                if recording:
                    undo.append((key, before))
                if before is None:
                    store[key] = (operation.value, current, current, 1, operation.lease)  # type: ignore[assignment]
                else:
                    store[key] = (operation.value, before[1], current, before[3] + 1, operation.lease)  # type: ignore[assignment]
            else:
                effects, mismatch = execute(operation, store, current)
                if mismatch:
                    return self._mismatch(operation, current, mismatch)
                self._apply(effects)
            if current in reads:
                wrong = self._reads(current)
                if wrong is not None:
                    return wrong
        return None

    def _reads(self, revision: int) -> Contradiction | None:
        store = self.store
        for operation in self.facts.reads.get(revision, ()):
            if operation.f == "get" and not operation.range_end:
                kvs = operation.result.kvs  # type: ignore[union-attr]
                if len(kvs) == 1:
                    kv = kvs[0]
                    version = store.get(kv.key)
                    if (
                        version is not None
                        and kv.mod_revision == version[2]
                        and kv.value == version[0]
                        and kv.version == version[3]
                        and kv.create_revision == version[1]
                        and kv.key == operation.key
                    ):
                        continue
                elif operation.key not in store:
                    continue
            _, mismatch = execute(operation, store, revision)
            if mismatch:
                return self._mismatch(operation, revision, mismatch)
        return None

    def _apply(self, effects: Effects) -> None:
        for key, version in effects:
            self.undo.append((key, self.store.get(key)))
            if version is None:
                del self.store[key]
            else:
                self.store[key] = version

    def _back(self, failed_at: int) -> int | None:
        """Undo to the last choice with an alternative; the revision to go on from, None if there is none."""
        while self.choices:
            choice = self.choices[-1]
            self.meter.steps += failed_at - choice.revision + 1
            while len(self.undo) > choice.undo:
                key, version = self.undo.pop()
                if version is None:
                    self.store.pop(key, None)
                else:
                    self.store[key] = version
            if choice.chosen is not None:
                del self.used[choice.chosen]
                choice.chosen = None
            if self._take(choice):
                wrong = self._reads(choice.revision)
                if wrong is None:
                    return choice.revision + 1
                if self.meter.exceeded() is not None:
                    return choice.revision + 1  # the caller looks at the limits and stops
                continue
            self.choices.pop()
        return None

    def _open(self, revision: int) -> bool:
        choice = _Choice(revision, self._candidates(revision), len(self.undo))
        self.choices.append(choice)
        if self._take(choice):
            return True
        self.choices.pop()
        return False

    def _take(self, choice: _Choice) -> bool:
        for number, effects in choice.candidates:
            self.meter.steps += 1
            self._apply(effects)
            choice.chosen = number
            if number is not None:
                self.used[number] = choice.revision
            return True
        return False

    def _candidates(self, revision: int) -> Iterator[tuple[int | None, Effects]]:
        """Who may have made this revision, the likeliest first, and what it did."""
        evidence = self.facts.evidence.get(revision)
        found: list[tuple[int, int, int, Effects]] = []  # rank, when it became possible, number, effects
        for number in self._possible(revision, evidence):
            operation = self.facts.unknown[number]
            effects, _ = execute(operation, self.store, revision)
            if not effects:
                continue
            if evidence is not None and not _shows(effects, evidence):
                continue
            rank = max(self._rank(key, version, revision) for key, version in effects)
            if rank < 3:
                found.append((rank, self.after[number], number, effects))
        found.sort(key=lambda item: item[:3])
        yield from ((number, effects) for _, _, number, effects in found)
        if not self.closed:
            yield from self._strangers(revision, evidence)

    def _possible(self, revision: int, evidence: dict[str, str | None] | None) -> Iterator[int]:
        """Unknown operations that may still be placed here; of puts nobody can tell apart, the first."""
        for key in sorted(self.puts) if evidence is None else sorted(evidence):
            tried: set[str] = set()
            for number in self.puts.get(key, ()):
                if self.after[number] >= revision:
                    break
                if number in self.used:
                    continue
                value = str(self.facts.unknown[number].value)
                if evidence is not None:
                    if value == evidence[key]:
                        yield number
                        break
                    continue
                if self._spoken_for(key, value, revision) or value in tried:
                    continue
                tried.add(value)
                yield number
                if key not in self.compared:
                    break
        for number in self.rest:
            if self.after[number] >= revision:
                break
            if number not in self.used:
                yield number

    def _spoken_for(self, key: str, value: str, revision: int) -> bool:
        """Whether every put of this value left is needed for revisions that show it."""
        needed = self.reserved.get((key, value), 0)
        if not needed:
            return False
        puts = [n for n in self.puts.get(key, ()) if str(self.facts.unknown[n].value) == value]
        return len(puts) <= needed

    def _rank(self, key: str, version: Version | None, revision: int) -> int:
        """0: something observed calls for this change; 1: nothing speaks against it; 2: only if more follows;
        3: ruled out."""
        fact = self.facts.next_fact(key, revision)
        if fact is None:
            return 1
        seen_at, create, mod, number = fact
        if version is None:
            if number == 0:
                return 0 if self.facts.known_writes(key, revision, seen_at) == 0 else 1
            return 3 if create <= revision else 1
        if number == 0:
            return 2 if seen_at > revision else 3
        if mod < revision:
            return 3
        if mod == revision:
            return 0 if (version[1], version[3]) == (create, number) else 3
        if create > revision:
            return 2
        if version[1] != create:
            return 3
        missing = number - version[3] + 1 - self.facts.known_writes(key, revision, mod)
        if missing <= 0 or missing > self.facts.gaps_between(revision, mod):
            return 3
        return 0

    def _strangers(
        self, revision: int, evidence: dict[str, str | None] | None
    ) -> Iterator[tuple[int | None, Effects]]:
        """What somebody outside the history may have done: what is in evidence, else an unseen change."""
        if evidence is not None:
            effects: Effects = []
            for key, value in sorted(evidence.items()):
                if value is None:
                    effects.append((key, None))
                else:
                    before = self.store.get(key)
                    effects.append(
                        (
                            key,
                            (
                                value,
                                before[1] if before else revision,
                                revision,
                                before[3] + 1 if before else 1,
                                0,
                            ),
                        )
                    )
            yield (
                None,
                [(key, version) for key, version in effects if version is not None or key in self.store],
            )
            return
        for key in sorted(self.store):
            if self._rank(key, None, revision) == 0:
                yield None, [(key, None)]
        yield None, []
        for key in sorted(self.facts.by_key):
            before = self.store.get(key)
            version: Version = (
                "",
                before[1] if before else revision,
                revision,
                before[3] + 1 if before else 1,
                0,
            )
            if self._rank(key, version, revision) == 0:
                yield None, [(key, version)]

    def _mismatch(self, operation: Operation, revision: int, mismatch: str) -> Contradiction:
        culprits = [operation]
        version = self.store.get(operation.key)
        for seen in (version[2] if version else 0, *_revisions_shown(operation)):
            other = self.facts.written.get(seen)
            if other is not None and other not in culprits:
                culprits.append(other)
        return Contradiction(
            f"the {operation.f} at revision {revision} is wrong: {mismatch}", tuple(culprits), revision
        )

    def _nobody(self, revision: int) -> Contradiction:
        evidence = self.facts.evidence.get(revision)
        if not evidence:
            return Contradiction(
                f"nobody can have made revision {revision}", self._around(revision), revision
            )
        key, value = next(iter(sorted(evidence.items())))
        did = f"deleted {key!r}" if value is None else f"put {value!r} into {key!r}"
        authors = tuple(
            o
            for o in (*self.failed, *self.facts.unknown, *self.facts.written.values())
            if o.f == "put" and o.key == key and o.value == value
        )[:2]
        why = "nobody can have done it"
        if authors and authors[0].outcome == "fail":
            why = "whoever tried was told that it did not happen"
        now = text_of(self.store.get(key))
        return Contradiction(
            f"revision {revision} {did}, but {why} (before it: {now})",
            (*authors, *self._around(revision)),
            revision,
        )

    def _around(self, revision: int) -> tuple[Operation, ...]:
        """The operations that make the gap visible: the writes beside it and who saw it."""
        found = [self.facts.written.get(revision - 1), self.facts.written.get(revision + 1)]
        readers = [
            o
            for operations in self.facts.reads.values()
            for o in operations
            if revision in _revisions_shown(o)
        ]
        return tuple(o for o in (*found, *readers[:1]) if o is not None)


def _shows(effects: Effects, evidence: dict[str, str | None]) -> bool:
    did = {key: None if version is None else version[0] for key, version in effects}
    return all(key in did and did[key] == value for key, value in evidence.items())


def _revisions_shown(operation: Operation) -> list[int]:
    kvs = getattr(operation.result, "kvs", ())
    return [kv.mod_revision for kv in kvs]


def _compared_keys(facts: Facts) -> frozenset[str]:
    """Keys whose value some transaction compares: there, puts of different values can be told apart."""
    everything = [
        *facts.unknown,
        *facts.written.values(),
        *(o for part in facts.reads.values() for o in part),
    ]
    return frozenset(
        comparison.key
        for operation in everything
        if isinstance(operation.value, Txn)
        for comparison in operation.value.compare
        if comparison.target == "value"
    )
