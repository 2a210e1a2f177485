"""What a member already counts for itself, as samples under etcd's names: read only when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..config import MemberConfig
from ..metric_names import TTL_SECONDS
from ..metrics import Counts, Sample
from ..quota import DEFAULT_QUOTA_BYTES

__all__ = ["node_samples"]



def node_samples(node: Any, config: MemberConfig) -> Iterator[Sample | Counts]:
    """The present values of a node (``net.node.Node``)."""
    machine = node.machine
    yield Sample("etcd_server_has_leader", float(bool(node.leader_id)))
    yield Sample("etcd_server_is_leader", float(node.is_leader))
    yield Sample("etcd_server_is_learner", float(node.is_learner))
    yield Sample("etcd_server_id", 1.0, (("server_id", f"{node.member_id:x}"),))
    yield Sample("etcd_server_version", 1.0, (("server_version", config.reported_version),))
    if machine.cluster_version:
        version = machine.cluster_version.rpartition(".")[0]
        yield Sample("etcd_cluster_version", 1.0, (("cluster_version", version),))
    yield Sample("etcd_server_proposals_committed_total", float(node.commit_index))
    yield Sample("etcd_server_proposals_applied_total", float(node.applied_index))
    yield Sample("etcd_server_proposals_pending", float(node.pending_proposals))
    yield Sample("etcd_server_proposals_failed_total", float(node.failed_proposals))
    yield Sample("etcd_server_leader_changes_seen_total", float(node.leader_changes))
    yield Sample("etcd_debugging_mvcc_current_revision", float(machine.revision))
    yield Sample("etcd_debugging_mvcc_compact_revision", float(max(0, machine.store.compacted)))
    yield Sample("etcd_debugging_mvcc_keys_total", float(machine.store.live_count()))
    size, in_use = map(float, node.database_size())
    yield Sample("etcd_mvcc_db_total_size_in_bytes", size)
    yield Sample("etcd_mvcc_db_total_size_in_use_in_bytes", in_use)
    yield Sample("etcd_debugging_mvcc_db_total_size_in_bytes", size)
    if node.keeper is not None:
        yield Sample("etcd_mvcc_db_open_read_transactions", float(node.keeper.backend.readers()))
    tally = machine.tally
    for name, count in (
        ("put", tally.puts), ("delete", tally.deletes), ("range", tally.ranges), ("txn", tally.txns),
    ):  # fmt: skip
        yield Sample(f"etcd_mvcc_{name}_total", float(count))
        yield Sample(f"etcd_debugging_mvcc_{name}_total", float(count))
    yield Sample("etcd_debugging_lease_granted_total", float(tally.leases_granted))
    yield Sample("etcd_debugging_lease_revoked_total", float(tally.leases_revoked))
    counts = [tally.lease_ttls.get(int(seconds), 0) for seconds in TTL_SECONDS]
    longer = tally.leases_granted - sum(counts)
    yield Counts("etcd_debugging_lease_ttl_total", (*counts, longer), float(tally.lease_seconds))
    yield Sample("etcd_debugging_auth_revision", float(machine.auth.revision))
    yield Sample("etcd_server_slow_read_indexes_total", float(node.slow_reads))
    yield Sample("etcd_server_read_indexes_failed_total", float(node.failed_reads))
    yield Sample("etcd_server_quota_backend_bytes", float(config.quota_backend_bytes or DEFAULT_QUOTA_BYTES))
