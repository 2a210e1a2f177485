"""What the services count, as samples under etcd's names: read only when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from ...leases import LeaseKeeper
from ...metrics import Sample
from .watch_hub import WatchHub

__all__ = ["service_samples"]


def service_samples(hub: WatchHub, leases: LeaseKeeper) -> Iterator[Sample]:
    """The present values of one member's watches and renewals."""
    watches = sum(stream.watch_count for stream in hub.streams.values())
    yield Sample("etcd_debugging_mvcc_watch_stream_total", float(len(hub.streams)))
    yield Sample("etcd_debugging_mvcc_watcher_total", float(watches))
    yield Sample("etcd_debugging_mvcc_slow_watcher_total", float(max(0, watches - hub.watcher_count)))
    yield Sample("etcd_debugging_mvcc_events_total", float(hub.events_sent))
    yield Sample("etcd_debugging_mvcc_pending_events_total", float(hub.pending_events))
    yield Sample("etcd_debugging_lease_renewed_total", float(leases.renewals))
    yield Sample("etcd_debugging_server_lease_expired_total", float(leases.expired))
