"""The metrics that are known by name: etcd's names, so that etcd's dashboards and alerts work here.

A counter only grows, a gauge is a present value (etcd publishes some totals as gauges; so do we), a
histogram counts samples by bucket. Help texts are our own. Those that etcd shows from its start on, with
zeros, are shown so here (``ALWAYS``): a dashboard must tell "nothing happened" from "not measured". Names of
etcd that are missing have nothing here that they could tell of (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

__all__ = ["ALWAYS", "DEFINITIONS", "SECONDS", "TTL_SECONDS", "Definition"]

#: 1 ms doubling to 8 s: the buckets of etcd's disk histograms.
SECONDS = tuple(0.001 * 2**power for power in range(14))
_ROUND_TRIP = tuple(0.0001 * 2**power for power in range(16))
_HASH_SECONDS = tuple(0.01 * 2**power for power in range(15))
_SNAPSHOT_SECONDS = tuple(0.01 * 2**power for power in range(17))
_DEFRAG_SECONDS = tuple(0.1 * 2**power for power in range(13))
_SAVE_SECONDS = tuple(0.1 * 2**power for power in range(10))
#: 1 s doubling: the buckets of lease TTLs.
TTL_SECONDS = tuple(float(2**power) for power in range(24))
_PAUSE_MS = tuple(float(2**power) for power in range(13))
_COMPACTION_MS = tuple(100.0 * 2**power for power in range(14))


class Definition(msgspec.Struct, frozen=True):
    """What is known of a metric before its first sample."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    buckets: tuple[float, ...] = SECONDS


def _counter(text: str) -> Definition:
    return Definition("counter", text)


def _gauge(text: str) -> Definition:
    return Definition("gauge", text)


def _histogram(text: str, buckets: tuple[float, ...] = SECONDS) -> Definition:
    return Definition("histogram", text, buckets)


DEFINITIONS: Mapping[str, Definition] = {
    "etcd_server_has_leader": _gauge("1 while this member knows a leader, 0 otherwise."),
    "etcd_server_is_leader": _gauge("1 while this member leads, 0 otherwise."),
    "etcd_server_is_learner": _gauge("1 while this member is a learner, 0 otherwise."),
    "etcd_server_id": _gauge("Always 1; the label server_id is the member id in hexadecimal."),
    "etcd_server_version": _gauge("Always 1; the label server_version is the version reported to clients."),
    "etcd_server_leader_changes_seen_total": _counter("Changes of leader that this member has seen."),
    "etcd_server_proposals_committed_total": _gauge("Index of the last committed log entry."),
    "etcd_server_proposals_applied_total": _gauge("Index of the last applied log entry."),
    "etcd_server_proposals_pending": _gauge("Proposals of this member that have no answer yet."),
    "etcd_server_proposals_failed_total": _counter("Proposals of this member that failed or timed out."),
    "etcd_server_slow_apply_total": _counter("Batches of entries that took too long to apply."),
    "etcd_server_slow_read_indexes_total": _counter("Read rounds that were not confirmed in time."),
    "etcd_server_read_indexes_failed_total": _counter("Read rounds that failed."),
    "etcd_server_heartbeat_send_failures_total": _counter("Heartbeats the leader could not send in time."),
    "etcd_server_health_success": _counter("Health checks that went well."),
    "etcd_server_health_failures": _counter("Health checks that failed."),
    "etcd_server_learner_promote_successes": _counter("Learners promoted while this member led."),
    "etcd_server_learner_promote_failures": _counter("Learners that were not promoted, by reason."),
    "etcd_network_snapshot_send_success": _counter("Snapshots sent, by receiver."),
    "etcd_network_snapshot_send_failures": _counter("Snapshots that could not be sent, by receiver."),
    "etcd_network_snapshot_send_total_duration_seconds": _histogram(
        "Time of sending a snapshot, by receiver.", _SAVE_SECONDS
    ),
    "etcd_network_snapshot_receive_success": _counter("Snapshots received, by sender."),
    "etcd_network_snapshot_receive_failures": _counter("Snapshots cut off while received, by sender."),
    "etcd_network_active_peers": _gauge("1 for each member that is connected, by member."),
    "etcd_server_snapshot_apply_in_progress_total": _gauge("1 while a snapshot is taken over, 0 otherwise."),
    "etcd_disk_backend_defrag_duration_seconds": _histogram("Time of a defragmentation.", _DEFRAG_SECONDS),
    "etcd_disk_backend_snapshot_duration_seconds": _histogram("Time of a snapshot.", _SNAPSHOT_SECONDS),
    "etcd_disk_defrag_inflight": _gauge("1 while the backend is defragmented, 0 otherwise."),
    "etcd_mvcc_db_open_read_transactions": _gauge("Open read transactions of the backend."),
    "etcd_mvcc_hash_duration_seconds": _histogram("Time to hash the whole store.", _HASH_SECONDS),
    "etcd_mvcc_hash_rev_duration_seconds": _histogram("Time to hash up to a revision.", _HASH_SECONDS),
    "etcd_snap_db_fsync_duration_seconds": _histogram("Time to make a snapshot durable."),
    "etcd_snap_db_save_total_duration_seconds": _histogram("Time to save a snapshot.", _SAVE_SECONDS),
    "etcd_debugging_auth_revision": _gauge("The revision of users, roles and their rights."),
    "etcd_debugging_lease_ttl_total": _histogram("Leases granted, by their TTL in seconds.", TTL_SECONDS),
    "etcd_debugging_mvcc_db_compaction_keys_total": _counter("Revisions removed by compactions."),
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds": _histogram(
        "Longest stall of one step of a compaction.", _PAUSE_MS
    ),
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds": _histogram(
        "Time of a whole compaction.", _COMPACTION_MS
    ),
    "etcd_debugging_mvcc_pending_events_total": _gauge("Watch events that wait to be sent."),
    "etcd_debugging_server_lease_expired_total": _counter("Leases that expired while this member led."),
    "etcd_network_disconnected_peers_total": _counter("Connections to members that were lost, by member."),
    "etcd_server_healthcheck": _gauge("1 when a check went well the last time, 0 when not, by question."),
    "etcd_server_healthchecks_total": _counter("Checks of health by question, name and result."),
    "etcd_server_go_version": _gauge("Always 1; the label server_go_version is the runtime's version."),
    "go_info": _gauge("Always 1; the label version is the runtime's version."),
    "go_goroutines": _gauge("Tasks that exist."),
    "go_threads": _gauge("Threads of the process."),
    "go_memstats_alloc_bytes": _gauge("Private memory that is resident, in bytes."),
    "go_memstats_heap_alloc_bytes": _gauge("Private memory that is resident, in bytes."),
    "go_memstats_heap_inuse_bytes": _gauge("Private memory that is resident, in bytes."),
    "go_memstats_heap_objects": _gauge("Blocks that the interpreter's allocator has given out."),
    "go_memstats_heap_sys_bytes": _gauge("Private memory that the system has promised, in bytes."),
    "go_memstats_sys_bytes": _gauge("Private memory that the system has promised, in bytes."),
    "go_memstats_stack_inuse_bytes": _gauge("Stack of the main thread, in bytes."),
    "go_memstats_stack_sys_bytes": _gauge("Stack of the main thread, in bytes."),
    "process_virtual_memory_max_bytes": _gauge("How much address space the process may have."),
    "promhttp_metric_handler_requests_in_flight": _gauge("Scrapes under way, this one included."),
    "promhttp_metric_handler_requests_total": _counter("Scrapes by HTTP status."),
    "os_fd_limit": _gauge("How many files this process may have open."),
    "os_fd_used": _gauge("How many files this process has open."),
    "etcd_server_client_requests_total": _counter("Requests of clients by type and API version."),
    "etcd_disk_wal_fsync_duration_seconds": _histogram("Time to make one WAL record durable."),
    "etcd_disk_wal_write_bytes_total": _gauge("Bytes of records written to the WAL."),
    "etcd_disk_backend_commit_duration_seconds": _histogram("Time to commit applied state to the backend."),
    "etcd_network_client_grpc_received_bytes_total": _counter("Bytes received from gRPC clients."),
    "etcd_network_client_grpc_sent_bytes_total": _counter("Bytes sent to gRPC clients."),
    "etcd_network_peer_received_bytes_total": _counter("Bytes received, by peer."),
    "etcd_network_peer_sent_bytes_total": _counter("Bytes sent, by peer."),
    "etcd_network_peer_sent_failures_total": _counter("Messages that could not be sent, by peer."),
    "etcd_network_peer_round_trip_time_seconds": _histogram("Round trips, by peer.", _ROUND_TRIP),
    "etcd_debugging_mvcc_keys_total": _gauge("Keys that exist now."),
    "etcd_debugging_mvcc_current_revision": _gauge("The store's revision."),
    "etcd_debugging_mvcc_compact_revision": _gauge("The revision of the last compaction."),
    **{
        f"etcd_{prefix}mvcc_{name}_total": _counter(f"{what} seen by this member.")
        for prefix in ("", "debugging_")
        for name, what in (
            ("put", "Puts"), ("delete", "Deletions"), ("range", "Ranges"),
            ("txn", "Pieces of work of several operations"),
        )
    },
    **{
        name: _gauge("Bytes that the store's records take, in whole pages.")
        for name in (
            "etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_debugging_mvcc_db_total_size_in_bytes",
        )
    },
    "etcd_server_quota_backend_bytes": _gauge("The size beyond which a store should not grow."),
    "etcd_debugging_mvcc_watch_stream_total": _gauge("Open watch streams."),
    "etcd_debugging_mvcc_watcher_total": _gauge("Open watches."),
    "etcd_debugging_mvcc_slow_watcher_total": _gauge("Watches that are behind the store."),
    "etcd_debugging_mvcc_events_total": _counter("Watch events sent by this member."),
    "etcd_debugging_lease_granted_total": _counter("Leases granted."),
    "etcd_debugging_lease_revoked_total": _counter("Leases revoked or expired."),
    "etcd_debugging_lease_renewed_total": _counter("Keep-alives that the leader has answered."),
    "grpc_server_started_total": _counter("Calls begun on the server."),
    "grpc_server_msg_received_total": _counter("Messages received by the server's calls."),
    "grpc_server_msg_sent_total": _counter("Messages sent by the server's calls."),
    "grpc_server_handled_total": _counter("Calls ended on the server, by status code."),
    "tercet_peer_messages_dropped_total": _counter("Messages dropped because the node was behind."),
    "process_start_time_seconds": _gauge("When the process began, in Unix seconds."),
}

#: They make sense with their labels only.
_LABELLED = (
    "etcd_server_id", "etcd_server_version", "etcd_server_go_version", "etcd_server_client_requests_total",
    "etcd_server_learner_promote_failures", "etcd_server_healthcheck", "etcd_server_healthchecks_total",
)  # fmt: skip

#: Shown with zeros before anything has happened: those without labels whose absence would puzzle.
ALWAYS: frozenset[str] = frozenset(
    name
    for name in DEFINITIONS
    if name.startswith(("etcd_server_", "etcd_disk_", "etcd_mvcc_", "etcd_snap_", "etcd_debugging_"))
    and name not in _LABELLED
)
