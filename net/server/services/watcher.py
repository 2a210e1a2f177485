"""One watch: what it wants, what it has been told, and what it is owed.

A watcher is *synced* when it is owed nothing older than the events in its queue, and *lagging* when it must
read its past from the store. Every watcher that starts in the past lags, and so does a synced one whose
client is too slow: its queue is dropped and the store is the queue. So a watcher's memory is bounded whatever
its client does. A whole revision is always told at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tercet.core.mvcc.record import Event, encode_event
from tercet.core.mvcc.steps import Steps, finish
from tercet.core.mvcc.store import Store

__all__ = ["CHUNK_BYTES", "Watcher", "cut_at_revision"]

_MAX_PENDING = 1000  # events queued for one watcher
_MAX_PENDING_BYTES = 1 << 20
_READ_EVENTS = 1000  # events looked at in one step of catching up
CHUNK_BYTES = 512 << 10  # about what one response may carry, in whole revisions


class Watcher:
    """State of one watch.

    Args:
        end: exclusive; None: unbounded.
        next_revision: the first revision not told yet.
        no_put: leave out puts; ``no_delete`` likewise.
    """

    __slots__ = (
        "_pending", "_pending_bytes", "end", "fragment", "id", "lagging", "next_revision", "no_delete",
        "no_put", "prev_kv", "progress_due", "progress_notify", "quiet", "start",
    )

    def __init__(
        self, watch_id: int, start: bytes, end: bytes | None, next_revision: int, *,
        no_put: bool, no_delete: bool, prev_kv: bool, fragment: bool, progress_notify: bool,
    ) -> None:
        self.id = watch_id
        self.start = start
        self.end = end
        self.next_revision = next_revision
        self.no_put = no_put
        self.no_delete = no_delete
        self.prev_kv = prev_kv
        self.fragment = fragment
        self.progress_notify = progress_notify
        self.lagging = True
        self.quiet = True  # nothing was sent since progress was last looked at
        self.progress_due = False
        self._pending: list[Event] = []
        self._pending_bytes = 0

    @property
    def owed(self) -> bool:
        """There is something to send."""
        return self.lagging or self.progress_due or bool(self._pending)

    @property
    def pending(self) -> int:
        """Events that wait to be sent."""
        return len(self._pending)

    def wants(self, event: Event) -> bool:
        """Neither told already, nor before the start, nor filtered out."""
        if event.record.mod_revision < self.next_revision:
            return False
        return not (self.no_put if event.record.version else self.no_delete)

    def offer(self, event: Event) -> bool:
        """Queue a new event of a synced watcher.

        Returns:
            False when the queue was full: it is dropped, and the watcher lags from its first event on.
        """
        if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
            self.fall_behind(0)
            return False
        self._pending.append(event)
        self._pending_bytes += len(event.record.data or b"")
        return True

    def fall_behind(self, revision: int) -> None:
        """Read on from the store: from the first event still queued, else from ``revision`` at least."""
        if self._pending:
            self.next_revision = self._pending[0].record.mod_revision
        else:
            self.next_revision = max(self.next_revision, revision)
        self._pending = []
        self._pending_bytes = 0
        self.lagging = True

    def take(self, store: Store) -> tuple[list[Event], int]:
        """The next events to tell, in whole revisions, and the revision the response speaks for."""
        return finish(self.read(store)) if self.lagging else self._take_pending(store)

    def read(self, store: Store) -> Steps[tuple[list[Event], int]]:
        """As ``take`` for a lagging watcher: a bounded piece of the past, in steps if a revision is large.

        It is synced when nothing is left to read. The caller has made sure that the past it needs is not
        compacted, and has pinned it if there is more than one step.
        """
        found, after = yield from store.events_in_pages(
            self.next_revision, self.start, self.end, _READ_EVENTS
        )
        wanted = [event for event in found if self.wants(event)]
        store.recall([event.record for event in wanted], CHUNK_BYTES)
        size = cut_at_revision(wanted, CHUNK_BYTES)
        if size < len(wanted):
            after = wanted[size].record.mod_revision
            wanted = wanted[:size]
        self.next_revision = max(after, self.next_revision)
        self.lagging = after <= store.revision
        return wanted, (after - 1 if self.lagging else store.revision)

    def _take_pending(self, store: Store) -> tuple[list[Event], int]:
        pending = self._pending
        if not pending:
            return [], store.revision
        first = pending[0].record
        if first.data is None and first.mod_revision < store.compacted:  # too late: its value may be gone
            self._pending, self._pending_bytes = [], 0
            self.next_revision, self.lagging = first.mod_revision, True
            return [], store.revision
        if len(pending) == 1:
            self._pending, self._pending_bytes = [], 0
            self.next_revision = first.mod_revision + 1
            return pending, first.mod_revision
        size = cut_at_revision(pending, CHUNK_BYTES)
        told, self._pending = pending[:size], pending[size:]
        self._pending_bytes = sum(len(event.record.data or b"") for event in self._pending)
        revision = told[-1].record.mod_revision
        self.next_revision = revision + 1
        return told, revision

    def encode(self, events: list[Event], store: Store) -> Iterator[bytes]:
        """Each event as field 11 of a ``WatchResponse``, without tag and length.

        A previous record that only a compacted revision could show is left out, as etcd does.
        """
        for event in events:
            known = self.prev_kv and event.record.mod_revision > store.compacted
            yield encode_event(event, prev_kv=known, data_of=store.data_of)


def cut_at_revision(events: list[Event], limit: int) -> int:
    """How many events from the front make whole revisions of about ``limit`` bytes; all of one at least."""
    size = 0
    for place, event in enumerate(events):
        if place and size >= limit and event.record.mod_revision != events[place - 1].record.mod_revision:
            return place
        size += len(event.record.data or b"")
    return len(events)
