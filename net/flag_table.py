"""etcd's flags as data: name, kind, default, and what a Tercet member does with each.

One row is all there is to know about a flag; ``net.flags`` reads the table for parsing, checking, the
``ETCD_*`` variables, the keys of ``--config-file`` and ``--help``. Rows exist for every flag of etcd 3.4
and the common ones of 3.5 and 3.6, so that start scripts written for etcd keep working:

* ``USED``: reaches the member's configuration;
* ``IDLE``: accepted without effect, because what it tunes does not exist here or cannot do harm;
* ``WARNED``: accepted, but the member says at start-up that it has no effect yet;
* ``REFUSED``: any other value than the default is an error, since ignoring it would break a promise
  (members found by a discovery service, an API that is not there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["FLAGS", "TABLE", "Effect", "Flag", "Kind"]


class Kind(Enum):
    """How a flag's text is read."""

    TEXT = "text"
    BOOL = "bool"
    UINT = "uint"
    INT = "int"
    DURATION = "duration"  # Go's spelling: 1h30m, 100ms
    URLS = "urls"
    CHOICE = "choice"
    LIST = "list"  # comma-separated


class Effect(Enum):
    """What the member does with a flag."""

    USED = 0
    IDLE = 1
    WARNED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``default`` is written as on the command line; ``choices`` belongs to ``Kind.CHOICE``."""

    name: str
    kind: Kind
    default: str
    group: str
    effect: Effect
    help: str
    choices: tuple[str, ...] = ()


_T, _B, _U, _I, _D, _R, _C, _L = (
    Kind.TEXT, Kind.BOOL, Kind.UINT, Kind.INT, Kind.DURATION, Kind.URLS, Kind.CHOICE, Kind.LIST,
)
_USED, _IDLE, _WARN, _NO = Effect.USED, Effect.IDLE, Effect.WARNED, Effect.REFUSED
_CLIENT: Final = "http://localhost:2379"
_PEER: Final = "http://localhost:2380"

_MEMBER = (
    Flag("name", _T, "default", "Member", _USED, "Name of this member, unique in the cluster."),
    Flag("data-dir", _T, "", "Member", _USED, "Folder of this member's data; <name>.etcd when not given."),
    Flag("wal-dir", _T, "", "Member", _USED, "A folder of its own for the write-ahead log."),
    Flag("snapshot-count", _U, "100000", "Member", _USED, "Applied entries between two snapshots."),
    Flag("heartbeat-interval", _U, "100", "Member", _USED, "Time between heartbeats, in milliseconds."),
    Flag("election-timeout", _U, "1000", "Member", _USED, "Time until an election, in milliseconds."),
    Flag("initial-election-tick-advance", _B, "true", "Member", _IDLE, "Shorten the first election."),
    Flag("listen-peer-urls", _R, _PEER, "Member", _USED, "Addresses to listen on for other members."),
    Flag("listen-client-urls", _R, _CLIENT, "Member", _USED, "Addresses to listen on for clients."),
    Flag("listen-client-http-urls", _R, "", "Member", _USED, "Separate addresses for HTTP clients."),
    Flag("max-snapshots", _U, "5", "Member", _IDLE, "Snapshot files to keep; 0 keeps all."),
    Flag("max-wals", _U, "5", "Member", _IDLE, "Log files to keep; 0 keeps all."),
    Flag("quota-backend-bytes", _I, "0", "Member", _USED, "Size beyond which the no-space alarm is raised."),
    Flag("backend-batch-interval", _D, "0s", "Member", _IDLE, "Longest time between two backend commits."),
    Flag("backend-batch-limit", _I, "0", "Member", _IDLE, "Most operations in one backend commit."),
    Flag("backend-bbolt-freelist-type", _T, "map", "Member", _IDLE, "Free list of etcd's own backend."),
    Flag("max-txn-ops", _U, "128", "Member", _USED, "Most operations in one transaction."),
    Flag("max-request-bytes", _U, "1572864", "Member", _USED, "Largest request of a client, in bytes."),
    Flag("max-concurrent-streams", _U, "4294967295", "Member", _USED, "Most open calls of one client."),
    Flag("grpc-keepalive-min-time", _D, "5s", "Member", _USED, "Shortest time between a client's pings."),
    Flag("grpc-keepalive-interval", _D, "2h", "Member", _USED, "Time between our pings of a quiet client."),
    Flag("grpc-keepalive-timeout", _D, "20s", "Member", _USED, "How long to wait for the answer to a ping."),
    Flag("socket-reuse-port", _B, "false", "Member", _USED, "Set SO_REUSEPORT on listening sockets."),
    Flag("socket-reuse-address", _B, "false", "Member", _IDLE, "Set SO_REUSEADDR (always set here)."),
)
_CLUSTERING = (
    Flag("initial-advertise-peer-urls", _R, _PEER, "Clustering", _USED, "Our peer URLs, told to the others."),
    Flag("initial-cluster", _T, "", "Clustering", _USED, "First members: n1=http://...:2380,n2=..."),
    Flag("initial-cluster-state", _C, "new", "Clustering", _USED, "A new cluster, or an existing one.",
         ("existing", "new")),
    Flag("initial-cluster-token", _T, "etcd-cluster", "Clustering", _USED, "Keeps clusters apart."),
    Flag("advertise-client-urls", _R, _CLIENT, "Clustering", _USED, "Our client URLs, told to clients."),
    Flag("discovery", _T, "", "Clustering", _NO, "URL of a discovery service."),
    Flag("discovery-fallback", _C, "proxy", "Clustering", _IDLE, "What to do when discovery fails.",
         ("exit", "proxy")),
    Flag("discovery-proxy", _T, "", "Clustering", _NO, "HTTP proxy towards the discovery service."),
    Flag("discovery-srv", _T, "", "Clustering", _USED, "DNS domain whose SRV records name the members."),
    Flag("discovery-srv-name", _T, "", "Clustering", _USED, "Suffix of the SRV name."),
    Flag("discovery-endpoints", _L, "", "Clustering", _NO, "Endpoints of a discovery cluster."),
    Flag("discovery-token", _T, "", "Clustering", _NO, "Token of a discovery cluster."),
    Flag("discovery-dial-timeout", _D, "2s", "Clustering", _IDLE, "Of the discovery cluster: connecting."),
    Flag("discovery-request-timeout", _D, "5s", "Clustering", _IDLE, "Of the discovery cluster: a request."),
    Flag("discovery-keepalive-time", _D, "2s", "Clustering", _IDLE, "Of the discovery cluster: pings."),
    Flag("discovery-keepalive-timeout", _D, "6s", "Clustering", _IDLE, "Of the discovery cluster: answers."),
    Flag("discovery-insecure-transport", _B, "true", "Clustering", _IDLE, "Of it: no TLS."),
    Flag("discovery-insecure-skip-tls-verify", _B, "false", "Clustering", _IDLE, "Of it: trust anybody."),
    Flag("discovery-cert", _T, "", "Clustering", _IDLE, "Of the discovery cluster: our certificate."),
    Flag("discovery-key", _T, "", "Clustering", _IDLE, "Of the discovery cluster: its key."),
    Flag("discovery-cacert", _T, "", "Clustering", _IDLE, "Of the discovery cluster: authorities."),
    Flag("discovery-user", _T, "", "Clustering", _IDLE, "Of the discovery cluster: name and password."),
    Flag("discovery-password", _T, "", "Clustering", _IDLE, "Of the discovery cluster: the password."),
    Flag("strict-reconfig-check", _B, "true", "Clustering", _USED, "Refuse changes that would lose quorum."),
    Flag("pre-vote", _B, "true", "Clustering", _USED, "Ask around before starting an election."),
    Flag("auto-compaction-retention", _T, "0", "Clustering", _USED, "History kept by auto compaction."),
    Flag("auto-compaction-mode", _T, "periodic", "Clustering", _USED, "periodic or revision."),
    Flag("enable-v2", _B, "false", "Clustering", _WARN, "Serve the old API 2."),
    Flag("v2-deprecation", _T, "not-yet", "Clustering", _IDLE, "Phase of API 2's removal."),
)
_SECURITY = (
    Flag("cert-file", _T, "", "Security", _USED, "Certificate of the client port."),
    Flag("key-file", _T, "", "Security", _USED, "Key of the client port."),
    Flag("client-cert-file", _T, "", "Security", _USED, "Certificate used towards ourselves."),
    Flag("client-key-file", _T, "", "Security", _USED, "Its key."),
    Flag("client-cert-auth", _B, "false", "Security", _USED, "Ask clients for a certificate."),
    Flag("client-cert-allowed-cn", _T, "", "Security", _USED, "Common name clients must show."),
    Flag("client-crl-file", _T, "", "Security", _USED, "Revoked client certificates."),
    Flag("client-cert-allowed-hostname", _T, "", "Security", _USED, "Host name clients must show."),
    Flag("trusted-ca-file", _T, "", "Security", _USED, "Authorities trusted on the client port."),
    Flag("auto-tls", _B, "false", "Security", _USED, "TLS for clients with a self-made certificate."),
    Flag("peer-cert-file", _T, "", "Security", _USED, "Certificate of the peer port."),
    Flag("peer-key-file", _T, "", "Security", _USED, "Key of the peer port."),
    Flag("peer-client-cert-file", _T, "", "Security", _USED, "Certificate used towards other members."),
    Flag("peer-client-key-file", _T, "", "Security", _USED, "Its key."),
    Flag("peer-client-cert-auth", _B, "false", "Security", _USED, "Ask members for a certificate."),
    Flag("peer-trusted-ca-file", _T, "", "Security", _USED, "Authorities trusted on the peer port."),
    Flag("peer-cert-allowed-cn", _T, "", "Security", _USED, "Common name members must show."),
    Flag("peer-cert-allowed-hostname", _T, "", "Security", _USED, "Host name members must show."),
    Flag("peer-auto-tls", _B, "false", "Security", _USED, "TLS for members with self-made certificates."),
    Flag("peer-crl-file", _T, "", "Security", _USED, "Revoked member certificates."),
    Flag("self-signed-cert-validity", _U, "1", "Security", _USED, "Years a self-made certificate lasts."),
    Flag("cipher-suites", _L, "", "Security", _USED, "TLS cipher suites, by Go's names."),
    Flag("tls-min-version", _T, "TLS1.2", "Security", _USED, "Lowest TLS version."),
    Flag("tls-max-version", _T, "", "Security", _USED, "Highest TLS version."),
    Flag("cors", _L, "*", "Security", _USED, "Origins allowed for browsers."),
    Flag("host-whitelist", _L, "*", "Security", _USED, "Host names allowed in HTTP requests."),
    Flag("auth-token", _T, "simple", "Auth", _USED, "Kind of authentication token."),
    Flag("bcrypt-cost", _U, "10", "Auth", _USED, "Cost of hashing passwords, 4 to 31."),
    Flag("auth-token-ttl", _U, "300", "Auth", _USED, "Life of a token, in seconds."),
)
_WATCHING = (
    Flag("enable-grpc-gateway", _B, "true", "Member", _USED, "Serve the JSON gateway under /v3."),
    Flag("enable-pprof", _B, "false", "Monitoring", _IDLE, "Serve Go's profiles (there are none here)."),
    Flag("metrics", _T, "basic", "Monitoring", _IDLE, "basic or extensive."),
    Flag("listen-metrics-urls", _R, "", "Monitoring", _USED, "More addresses for metrics and health."),
    Flag("logger", _T, "zap", "Logging", _USED, "zap: one JSON object a line; capnslog is taken for it."),
    Flag("log-outputs", _L, "default", "Logging", _USED, "default, stderr, stdout, or files."),
    Flag("log-level", _T, "info", "Logging", _USED, "debug, info, warn, error, panic or fatal."),
    Flag("log-format", _T, "json", "Logging", _USED, "json or console."),
    Flag("enable-log-rotation", _B, "false", "Logging", _USED, "Rotate a log file."),
    Flag("log-rotation-config-json", _T, "", "Logging", _USED, "How to rotate it."),
    Flag("debug", _B, "false", "Logging", _USED, "Short for --log-level debug."),
    Flag("log-package-levels", _T, "", "Logging", _IDLE, "Levels of etcd's own packages."),
    Flag("warning-apply-duration", _D, "100ms", "Monitoring", _USED, "Warn of slower applies."),
    Flag("warning-unary-request-duration", _D, "300ms", "Monitoring", _IDLE, "Warn of slower requests."),
    Flag("enable-distributed-tracing", _B, "false", "Monitoring", _IDLE, "Send spans to a collector."),
)
_OTHER = (
    Flag("proxy", _C, "off", "v2 Proxy", _NO, "Serve as a proxy of API 2.", ("off", "on", "readonly")),
    Flag("proxy-failure-wait", _U, "5000", "v2 Proxy", _IDLE, "Milliseconds a failed endpoint rests."),
    Flag("proxy-refresh-interval", _U, "30000", "v2 Proxy", _IDLE, "Milliseconds between refreshes."),
    Flag("proxy-dial-timeout", _U, "1000", "v2 Proxy", _IDLE, "Milliseconds for a connect."),
    Flag("proxy-write-timeout", _U, "5000", "v2 Proxy", _IDLE, "Milliseconds for a write."),
    Flag("proxy-read-timeout", _U, "0", "v2 Proxy", _IDLE, "Milliseconds for a read."),
    Flag("initial-corrupt-check", _B, "false", "Features", _USED, "Compare hashes before serving."),
    Flag("corrupt-check-time", _D, "0s", "Features", _USED, "Time between comparisons of hashes."),
    Flag("compact-hash-check-enabled", _B, "false", "Features", _USED, "Compare hashes after compactions."),
    Flag("compact-hash-check-time", _D, "1m0s", "Features", _USED, "Time between those comparisons."),
    Flag("enable-v2v3", _T, "", "Features", _NO, "Serve API 2 from keys of API 3."),
    Flag("enable-lease-checkpoint", _B, "false", "Features", _USED, "Replicate remaining lease times."),
    Flag("enable-lease-checkpoint-persist", _B, "false", "Features", _USED, "Store them, too."),
    Flag("compaction-batch-limit", _I, "1000", "Features", _USED, "Revisions removed in one step."),
    Flag("compaction-sleep-interval", _D, "10ms", "Features", _USED, "Pause between such steps."),
    Flag("peer-skip-client-san-verification", _B, "false", "Features", _USED, "Let certificates travel."),
    Flag("watch-progress-notify-interval", _D, "10m0s", "Features", _USED, "Time between progress messages."),
    Flag("snapshot-catchup-entries", _U, "5000", "Features", _USED, "Entries kept behind a snapshot."),
    Flag("max-learners", _I, "1", "Features", _USED, "Most learners at once."),
    Flag("read-only-lease", _B, "false", "Features", _USED,
         "Read by the leader's lease: no clock may stand still, or run 1.6 times as fast as another."),
    Flag("set-member-localaddr", _B, "false", "Features", _WARN, "Dial members from our own peer address."),
    Flag("memory-mlock", _B, "false", "Features", _IDLE, "Keep the backend's pages in memory."),
    Flag("downgrade-check-time", _D, "5s", "Features", _USED, "Time between checks of a downgrade."),
    Flag("stop-grpc-service-on-defrag", _B, "false", "Features", _USED, "Pause clients during defrag."),
    Flag("bootstrap-defrag-threshold-megabytes", _U, "0", "Features", _USED, "Defragment at start-up."),
    Flag("feature-gates", _T, "", "Features", _USED, "Feature=true,... as in etcd 3.6."),
    Flag("txn-mode-write-with-shared-buffer", _B, "true", "Features", _IDLE, "How etcd's backend reads."),
    Flag("wait-cluster-ready-timeout", _D, "5s", "Features", _IDLE, "How long a start waits for a leader."),
    Flag("distributed-tracing-address", _T, "localhost:4317", "Features", _IDLE, "Where spans go."),
    Flag("distributed-tracing-service-name", _T, "etcd", "Features", _IDLE, "Name of their service."),
    Flag("distributed-tracing-instance-id", _T, "", "Features", _IDLE, "Name of this instance in them."),
    Flag("distributed-tracing-sampling-rate", _I, "0", "Features", _IDLE, "Spans kept per million."),
    Flag("raft-read-timeout", _D, "5s", "Features", _IDLE, "Longest read on a peer connection."),
    Flag("raft-write-timeout", _D, "5s", "Features", _IDLE, "Longest write on a peer connection."),
    Flag("force-new-cluster", _B, "false", "Unsafe", _USED, "Make a one-member cluster of old data."),
    Flag("unsafe-no-fsync", _B, "false", "Unsafe", _USED, "Lose data at a power cut, and be faster."),
    Flag("config-file", _T, "", "Tercet", _USED, "Take everything from a YAML file; flags are ignored."),
    Flag("trace", _T, "", "Tercet", _USED, "Record every step of the core into this file."),
    Flag("reported-version", _T, "3.4.35", "Tercet", _USED, "The etcd version this member claims to be."),
    Flag("version", _B, "false", "Tercet", _USED, "Print the version and exit."),
    Flag("help", _B, "false", "Tercet", _USED, "Print this help and exit."),
    Flag("h", _B, "false", "", _USED, ""),
)

#: 3.4 and 3.5 spell these with a prefix, 3.6 without; both are accepted.
_EXPERIMENTAL: Final = frozenset(
    flag.name for flag in _OTHER if flag.group == "Features"
) | {"backend-bbolt-freelist-type", "warning-apply-duration", "warning-unary-request-duration",
     "enable-distributed-tracing"}


def _with_prefix(rows: tuple[Flag, ...]) -> tuple[Flag, ...]:
    return tuple(
        Flag(f"experimental-{row.name}", row.kind, row.default, "", row.effect, row.help, row.choices)
        for row in rows
        if row.name in _EXPERIMENTAL
    )


_PLAIN: Final = _MEMBER + _CLUSTERING + _SECURITY + _WATCHING + _OTHER
#: Every flag, in the order of ``--help``.
TABLE: Final[tuple[Flag, ...]] = _PLAIN + _with_prefix(_PLAIN)
#: The same, by name.
FLAGS: Final[Mapping[str, Flag]] = MappingProxyType({flag.name: flag for flag in TABLE})
