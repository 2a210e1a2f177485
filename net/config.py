"""One member's configuration, with etcd's flag names in snake case.

``MemberConfig`` is the resolved value that ``net.member`` takes; where it comes from (flags, ``ETCD_*``
variables, ``--config-file``) is ``net.flags``'s business.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .log_rotation import Rotation
from .tls_settings import TlsSettings

__all__ = ["UNBOUNDED_STREAMS", "MemberConfig", "cluster_id", "member_id", "wal_folder"]

#: What etcd takes for "no bound" of ``--max-concurrent-streams``.
UNBOUNDED_STREAMS: Final = 2**32 - 1


def member_id(peer_urls: tuple[str, ...], token: str) -> int:
    """The id of a bootstrap member, computed as etcd does: from its peer URLs and the cluster's token."""
    text = "".join(sorted(peer_urls)) + token
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def cluster_id(member_ids: tuple[int, ...]) -> int:
    """The id of a cluster, computed as etcd does: from the ids of its first members."""
    joined = b"".join(i.to_bytes(8, "big") for i in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(joined).digest()[:8], "big")


def wal_folder(data_dir: str) -> str:
    """Where the write-ahead log of a data directory is, unless it has a folder of its own."""
    return posixpath.join(data_dir, "member", "wal")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """What one member needs to know. URLs are strings such as ``http://127.0.0.1:2379``."""

    name: str = "default"
    data_dir: str = "default.etcd"
    wal_dir: str = ""  # "": a folder of the data directory
    listen_client_urls: tuple[str, ...] = ("http://localhost:2379",)
    advertise_client_urls: tuple[str, ...] = ("http://localhost:2379",)
    listen_peer_urls: tuple[str, ...] = ("http://localhost:2380",)
    initial_advertise_peer_urls: tuple[str, ...] = ("http://localhost:2380",)
    listen_metrics_urls: tuple[str, ...] = ()
    #: member name -> its peer URLs; empty: this member alone.
    initial_cluster: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    initial_cluster_token: str = "etcd-cluster"
    initial_cluster_state: str = "new"  # new or existing
    heartbeat_interval_ms: int = 100
    election_timeout_ms: int = 1000
    pre_vote: bool = True
    max_request_bytes: int = 1_572_864  # 1.5 MiB
    max_txn_ops: int = 128
    max_concurrent_streams: int = UNBOUNDED_STREAMS  # of one client; 0 or the default: the front's own bound
    grpc_keepalive_min_time: float = 5.0  # seconds between a client's pings; <= 0: gRPC's default, 300
    grpc_keepalive_interval: float = 7200.0  # seconds of silence before we ping; <= 0: gRPC's default
    grpc_keepalive_timeout: float = 20.0  # seconds to wait for the answer; <= 0: gRPC's default for both
    quota_backend_bytes: int = 0  # 0: etcd's default of 2 GiB; < 0: no quota
    snapshot_count: int = 100_000  # applied entries between two snapshots
    snapshot_catchup_entries: int = 5_000  # entries kept behind a snapshot for slow members
    resident_value_bytes: int = 67_108_864  # values kept in memory although they are on disk
    auto_compaction_mode: str = "periodic"  # or revision
    #: periodic: seconds of history that are kept; revision: revisions that are kept; 0: no compaction.
    auto_compaction_retention: float = 0.0
    compaction_batch_limit: int = 1_000  # revisions removed in one step
    compaction_sleep_interval: float = 0.01  # seconds between two steps
    strict_reconfig_check: bool = True
    stop_grpc_service_on_defrag: bool = False  # gRPC's health service says so meanwhile
    bootstrap_defrag_threshold_megabytes: int = 0  # holes from which on a start defragments; 0: never
    downgrade_check_time: float = 5.0  # seconds between looks at the members' versions; > 0
    max_learners: int = 1  # that the cluster may have when this member adds one
    read_only_lease: bool = False  # linearizable reads by the leader's lease: see docs/raft.md, section 7
    warning_apply_duration: float = 0.1  # seconds; applying a batch for longer is worth a warning
    force_new_cluster: bool = False  # make a cluster of one out of this member's data
    unsafe_no_fsync: bool = False  # data may be lost when the power fails
    auth_token: str = "simple"  # or jwt,sign-method=...,...
    auth_token_ttl: float = 300.0  # seconds a simple token lives without use
    bcrypt_cost: int = 10  # 4 to 31
    initial_corrupt_check: bool = False  # compare hashes with the others before serving
    corrupt_check_time: float = 0.0  # seconds between comparisons by the leader; 0: never
    compact_hash_check_enabled: bool = False  # compare what the last compaction has left, too
    compact_hash_check_time: float = 60.0  # seconds between these comparisons; > 0
    enable_lease_checkpoint: bool = False
    enable_lease_checkpoint_persist: bool = False
    lease_checkpoint_interval: float = 300.0  # seconds; shorter leases get no checkpoints
    watch_progress_notify_interval: float = 600.0  # seconds
    client_tls: TlsSettings = field(default_factory=TlsSettings)
    peer_tls: TlsSettings = field(default_factory=TlsSettings)
    listen_client_http_urls: tuple[str, ...] = ()  # then listen_client_urls serve gRPC alone
    enable_grpc_gateway: bool = True  # the JSON paths under /v3
    cors: tuple[str, ...] = ("*",)  # origins that browsers may come from
    host_whitelist: tuple[str, ...] = ("*",)  # hosts that plain HTTP requests may name
    discovery_srv: str = ""  # DNS domain whose SRV records name the first members
    discovery_srv_name: str = ""
    reported_version: str = "3.4.35"
    log_level: str = "info"
    log_outputs: tuple[str, ...] = ("default",)
    log_rotation: Rotation | None = None  # of a log file; None: it grows for ever
    socket_reuse_port: bool = False  # others may listen on our ports, too
    log_format: str = "json"  # or console
    trace_file: str = ""  # "": no trace
    wal_segment_bytes: int = 67_108_864  # capacity of one WAL file, >= 4096; small in simulations
    #: Proposals that this member as leader lets wait for a majority; beyond it they are refused; 0: no limit.
    max_uncommitted_bytes: int = 134_217_728
    #: Of unanswered appends to one member; one may go beyond. It fits into a peer's queue; 0: no limit.
    max_inflight_bytes: int = 16_777_216
    #: Seed of everything this member draws by hash (election timeouts); drawn at start-up in production.
    seed: int = 0

    @property
    def log_folder(self) -> str:
        """Where the write-ahead log's segments are."""
        return self.wal_dir or wal_folder(self.data_dir)

    def members(self) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
        """The first members as (id, name, peer URLs), sorted by id."""
        cluster = self.initial_cluster or {self.name: self.initial_advertise_peer_urls}
        rows = [(member_id(urls, self.initial_cluster_token), name, urls) for name, urls in cluster.items()]
        return tuple(sorted(rows))
