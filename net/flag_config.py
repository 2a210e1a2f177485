"""From the values of flags to a member's configuration: defaults, rules between flags, etcd's refusals.

Nothing is read from a disk or the network here, so that a wrong command line is known at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from .config import MemberConfig
from .feature_gates import feature_gates
from .flag_table import TABLE, Effect
from .flag_values import FlagError, Value, check_url, parse_duration, read_value
from .log import LEVELS
from .log_rotation import Rotation, read_rotation
from .tls_settings import TlsError, TlsSettings, check_settings

__all__ = ["resolve"]

ELECTION_MS_MAX: Final = 50_000
#: Well below what one frame between members may hold (core/wire/peer.py).
REQUEST_BYTES_MAX: Final = 10 << 20
_HOUR: Final = 3600.0
_LISTEN: Final = ("listen-peer-urls", "listen-client-urls", "listen-metrics-urls", "listen-client-http-urls")
_ADVERTISE: Final = ("initial-advertise-peer-urls", "advertise-client-urls")


class _Values:
    """The flags' values by name, defaults filled in, each with its type."""

    def __init__(self, given: Mapping[str, Value]) -> None:
        self.given = given = {**given, **feature_gates(str(given.get("feature-gates", "")))}
        self._values: dict[str, Value] = {flag.name: read_value(flag, flag.default) for flag in TABLE}
        self._values.update(given)
        for name, value in given.items():  # the old spelling counts where the new one is not given
            plain = name.removeprefix("experimental-")
            if plain != name and plain not in given:
                self._values[plain] = value

    def text(self, name: str) -> str:
        return str(self._values[name])

    def flag(self, name: str) -> bool:
        return bool(self._values[name])

    def number(self, name: str) -> int:
        found = self._values[name]
        assert isinstance(found, int), name
        return found

    def seconds(self, name: str) -> float:
        found = self._values[name]
        assert isinstance(found, (int, float)), name
        return float(found)

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._values[name]
        assert isinstance(found, tuple), name
        return found


def resolve(given: Mapping[str, Value], warnings: list[str]) -> MemberConfig:
    """Fill in defaults, check everything, and make the configuration; ``FlagError`` in etcd's words.

    Args:
        given: what was given, by flag.
        warnings: what should be said at start-up is added.
    """
    values = _Values(given)
    _check_effects(given, warnings)
    _check_deprecated(values, warnings)
    _check_log(values)
    _check_addresses(values)
    _check_discovery(values)
    _check_timing(values.number("heartbeat-interval"), values.number("election-timeout"))
    _check_request_bytes(values.number("max-request-bytes"))
    _check_features(values)
    if "listen-client-urls" in given and "advertise-client-urls" not in given:
        raise FlagError("--advertise-client-urls is required when --listen-client-urls is set explicitly")
    if values.text("auto-compaction-mode") not in ("periodic", "revision"):
        raise FlagError(f'unknown auto-compaction-mode "{values.text("auto-compaction-mode")}"')
    client_tls, peer_tls = _client_tls(values), _peer_tls(values)
    _check_tls(values, client_tls, peer_tls, warnings)
    return _configure(values, client_tls, peer_tls)


def _check_effects(given: Mapping[str, Value], warnings: list[str]) -> None:
    for flag in TABLE:
        if flag.name not in given or given[flag.name] == read_value(flag, flag.default):
            continue
        if flag.effect is Effect.REFUSED:
            raise FlagError(f"--{flag.name} is not supported by this version of Tercet")
        if flag.effect is Effect.WARNED:
            warnings.append(f"--{flag.name} has no effect in this version of Tercet")


def _check_deprecated(values: _Values, warnings: list[str]) -> None:
    if values.flag("debug"):
        warnings.append("[WARNING] Deprecated '--debug' flag is set to true (use '--log-level=debug' instead")
    packages = values.text("log-package-levels")
    if packages:
        warnings.append(
            f"[WARNING] Deprecated '--log-package-levels={packages}' flag is set;"
            " use '--logger=zap' flag instead"
        )
    if values.text("logger") == "capnslog":
        warnings.append(
            "[WARNING] Deprecated '--logger=capnslog' flag is set; use '--logger=zap' flag instead"
        )


def _check_log(values: _Values) -> None:
    logger, level = values.text("logger"), values.text("log-level")
    if logger not in ("zap", "capnslog"):
        raise FlagError(f'unknown logger option "{logger}"')
    if level not in LEVELS:
        raise FlagError(f'unknown level "{level}"')
    if values.text("log-format") not in ("json", "console"):
        raise FlagError(f"unknown log format: {values.text('log-format')}, supported values json, console")
    outputs = values.texts("log-outputs")
    if len(outputs) > 1 and "default" in outputs:
        raise FlagError('multi logoutput for "default" is not supported yet')


def _log_rotation(values: _Values) -> Rotation | None:
    if not values.flag("enable-log-rotation"):
        return None
    files = [one for one in values.texts("log-outputs") if one not in ("default", "stderr", "stdout")]
    if len(files) != 1:
        raise FlagError("--log-outputs requires a single file path when --log-rotate-config-json is defined")
    try:
        return read_rotation(values.text("log-rotation-config-json"))
    except ValueError as problem:
        raise FlagError(str(problem)) from None


def _check_addresses(values: _Values) -> None:
    for name in _LISTEN:
        for url in values.texts(name):
            parts = urlsplit(url)
            host = parts.netloc.rpartition(":")[0].strip("[]")
            if parts.scheme in ("http", "https") and host not in ("", "localhost") and not _is_address(host):
                raise FlagError(f"expected IP in URL for binding ({url})")
    for name in _ADVERTISE:
        for url in values.texts(name):
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and not parts.netloc.rpartition(":")[0]:
                raise FlagError(f"unexpected empty host ({url})")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_discovery(values: _Values) -> None:
    ways = ("initial-cluster", "discovery", "discovery-srv")
    if sum(bool(values.text(name)) for name in ways) > 1:
        raise FlagError(
            'multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or'
            ' "discovery-srv"'
        )


def _check_timing(heartbeat: int, election: int) -> None:
    if heartbeat <= 0:
        raise FlagError(f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    if election <= 0:
        raise FlagError(f"--election-timeout must be >0 (set to {election}ms)")
    if 5 * heartbeat > election:
        raise FlagError(
            f"--election-timeout[{election}ms] should be at least as 5 times as"
            f" --heartbeat-interval[{heartbeat}ms]"
        )
    if election > ELECTION_MS_MAX:
        raise FlagError(
            f"--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )


def _check_request_bytes(size: int) -> None:
    if not 0 < size <= REQUEST_BYTES_MAX:
        raise FlagError(
            f"--max-request-bytes must be 1 to {REQUEST_BYTES_MAX}"
            f" (a member must be able to send a request on to the others); got {size}"
        )


def _check_features(values: _Values) -> None:
    if values.seconds("downgrade-check-time") <= 0:
        raise FlagError("DowngradeCheckTime must be positive")
    learners = values.number("max-learners")
    if not 0 <= learners < 1 << 31:
        raise FlagError(f"--max-learners must be 0 to {(1 << 31) - 1}, got {learners}")
    interval = values.seconds("compact-hash-check-time")
    if interval <= 0:
        raise FlagError(f"--experimental-compact-hash-check-time must be >0 (set to {interval:g}s)")
    if values.flag("enable-lease-checkpoint-persist") and not values.flag("enable-lease-checkpoint"):
        raise FlagError(
            "setting experimental-enable-lease-checkpoint-persist requires"
            " experimental-enable-lease-checkpoint"
        )


# TLS.


def _client_tls(values: _Values) -> TlsSettings:
    return TlsSettings(
        cert_file=values.text("cert-file"),
        key_file=values.text("key-file"),
        client_cert_file=values.text("client-cert-file"),
        client_key_file=values.text("client-key-file"),
        trusted_ca_file=values.text("trusted-ca-file"),
        client_cert_auth=values.flag("client-cert-auth"),
        crl_file=values.text("client-crl-file"),
        allowed_cn=values.text("client-cert-allowed-cn"),
        allowed_hostname=values.text("client-cert-allowed-hostname"),
        auto=values.flag("auto-tls"),
        cipher_suites=values.texts("cipher-suites"),
        min_version=values.text("tls-min-version"),
        max_version=values.text("tls-max-version"),
        skip_san_check=True,  # clients may come from anywhere: only members are tied to their addresses
        self_signed_years=values.number("self-signed-cert-validity"),
    )


def _peer_tls(values: _Values) -> TlsSettings:
    return TlsSettings(
        cert_file=values.text("peer-cert-file"),
        key_file=values.text("peer-key-file"),
        client_cert_file=values.text("peer-client-cert-file"),
        client_key_file=values.text("peer-client-key-file"),
        trusted_ca_file=values.text("peer-trusted-ca-file"),
        client_cert_auth=values.flag("peer-client-cert-auth"),
        crl_file=values.text("peer-crl-file"),
        allowed_cn=values.text("peer-cert-allowed-cn"),
        allowed_hostname=values.text("peer-cert-allowed-hostname"),
        auto=values.flag("peer-auto-tls"),
        cipher_suites=values.texts("cipher-suites"),
        min_version=values.text("tls-min-version"),
        max_version=values.text("tls-max-version"),
        skip_san_check=values.flag("peer-skip-client-san-verification"),
        self_signed_years=values.number("self-signed-cert-validity"),
        server_name=values.text("discovery-srv"),
    )


def _check_tls(
    values: _Values, client: TlsSettings, peer: TlsSettings, warnings: list[str]
) -> None:
    """Certificates where URLs ask for them; a warning where they are given in vain."""
    try:
        check_settings(client)
        check_settings(peer)
    except TlsError as problem:
        raise FlagError(str(problem)) from None
    for url in (*values.texts("listen-client-urls"), *values.texts("listen-client-http-urls"),
                *values.texts("listen-metrics-urls")):  # fmt: skip
        if _is_secure(url) and not client.usable:
            raise FlagError(
                f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url}"
                " with HTTPS scheme"
            )
    for url in values.texts("listen-peer-urls"):
        if _is_secure(url) and not peer.usable:
            address = url.partition("://")[2]
            raise FlagError(f"cannot listen on TLS for {address}: KeyFile and CertFile are not presented")
    for urls, settings, option in (
        (values.texts("listen-client-urls"), client, "client-cert-auth"),
        (values.texts("listen-peer-urls"), peer, "peer-client-cert-auth"),
    ):
        if all(_is_secure(url) for url in urls):
            continue
        if not settings.empty:
            warnings.append(
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            )
        if settings.client_cert_auth:
            warnings.append(
                f"scheme is HTTP while --{option} is enabled; ignoring client cert auth for this URL"
            )


def _is_secure(url: str) -> bool:
    return url.startswith(("https://", "unixs://"))


# The rest.


def _initial_cluster(text: str, name: str, own_urls: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Read ``n1=url,n2=url`` (a name may come twice, with another URL each time) and check our own part."""
    members: dict[str, list[str]] = {}
    for part in text.split(","):
        member, _, url = part.strip().partition("=")
        try:
            members.setdefault(member, []).append(check_url(url))
        except ValueError as problem:
            raise FlagError(f"error setting up initial cluster: {problem}") from None
    if name not in members:
        raise FlagError(f"couldn't find local name \"{name}\" in the initial cluster configuration")
    every = [url for urls in members.values() for url in urls]
    if len(set(every)) != len(every):
        raise FlagError(f"initial cluster {text} has duplicate url")
    ours = tuple(sorted(members[name]))
    if ours != own_urls:
        raise FlagError(
            f"--initial-cluster has {','.join(f'{name}={url}' for url in ours)} but missing from"
            f" --initial-advertise-peer-urls={','.join(own_urls)}"
        )
    return {member: tuple(sorted(urls)) for member, urls in members.items()}


def _retention(text: str, mode: str) -> float:
    """Seconds or revisions: a bare number is hours or revisions, a duration seconds or, as in etcd, as many
    revisions as it has nanoseconds."""
    if text.lstrip("+").isdecimal():
        return float(int(text)) if mode == "revision" else int(text) * _HOUR
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise FlagError(f'error parsing CompactionRetention: time: invalid duration "{text}"') from None
    return seconds * 1e9 if mode == "revision" else seconds


def _configure(values: _Values, client_tls: TlsSettings, peer_tls: TlsSettings) -> MemberConfig:
    name = values.text("name")
    own_urls = values.texts("initial-advertise-peer-urls")
    domain = values.text("discovery-srv")
    text = values.text("initial-cluster") or ",".join(f"{name}={url}" for url in own_urls)
    mode = values.text("auto-compaction-mode")
    return MemberConfig(
        name=name,
        data_dir=values.text("data-dir") or f"{name}.etcd",
        wal_dir=values.text("wal-dir"),
        listen_client_urls=values.texts("listen-client-urls"),
        advertise_client_urls=values.texts("advertise-client-urls"),
        listen_peer_urls=values.texts("listen-peer-urls"),
        initial_advertise_peer_urls=own_urls,
        listen_metrics_urls=values.texts("listen-metrics-urls"),
        listen_client_http_urls=values.texts("listen-client-http-urls"),
        initial_cluster={} if domain else _initial_cluster(text, name, own_urls),
        initial_cluster_token=values.text("initial-cluster-token"),
        initial_cluster_state=values.text("initial-cluster-state"),
        discovery_srv=domain,
        discovery_srv_name=values.text("discovery-srv-name"),
        heartbeat_interval_ms=values.number("heartbeat-interval"),
        election_timeout_ms=values.number("election-timeout"),
        pre_vote=values.flag("pre-vote"),
        max_request_bytes=values.number("max-request-bytes"),
        max_txn_ops=values.number("max-txn-ops"),
        max_concurrent_streams=values.number("max-concurrent-streams"),
        grpc_keepalive_min_time=values.seconds("grpc-keepalive-min-time"),
        grpc_keepalive_interval=values.seconds("grpc-keepalive-interval"),
        grpc_keepalive_timeout=values.seconds("grpc-keepalive-timeout"),
        quota_backend_bytes=values.number("quota-backend-bytes"),
        snapshot_count=values.number("snapshot-count") or 100_000,
        snapshot_catchup_entries=values.number("snapshot-catchup-entries"),
        auto_compaction_mode=mode,
        auto_compaction_retention=_retention(values.text("auto-compaction-retention"), mode),
        compaction_batch_limit=values.number("compaction-batch-limit"),
        compaction_sleep_interval=values.seconds("compaction-sleep-interval"),
        strict_reconfig_check=values.flag("strict-reconfig-check"),
        force_new_cluster=values.flag("force-new-cluster"),
        unsafe_no_fsync=values.flag("unsafe-no-fsync"),
        auth_token=values.text("auth-token"),
        auth_token_ttl=float(values.number("auth-token-ttl")),
        bcrypt_cost=values.number("bcrypt-cost"),
        initial_corrupt_check=values.flag("initial-corrupt-check"),
        corrupt_check_time=values.seconds("corrupt-check-time"),
        compact_hash_check_enabled=values.flag("compact-hash-check-enabled"),
        compact_hash_check_time=values.seconds("compact-hash-check-time"),
        max_learners=values.number("max-learners"),
        stop_grpc_service_on_defrag=values.flag("stop-grpc-service-on-defrag"),
        bootstrap_defrag_threshold_megabytes=values.number("bootstrap-defrag-threshold-megabytes"),
        downgrade_check_time=values.seconds("downgrade-check-time"),
        read_only_lease=values.flag("read-only-lease"),
        warning_apply_duration=values.seconds("warning-apply-duration"),
        enable_lease_checkpoint=values.flag("enable-lease-checkpoint"),
        enable_lease_checkpoint_persist=values.flag("enable-lease-checkpoint-persist"),
        watch_progress_notify_interval=values.seconds("watch-progress-notify-interval"),
        client_tls=client_tls,
        peer_tls=peer_tls,
        enable_grpc_gateway=values.flag("enable-grpc-gateway"),
        cors=values.texts("cors"),
        host_whitelist=values.texts("host-whitelist"),
        reported_version=values.text("reported-version"),
        log_level="debug" if values.flag("debug") else values.text("log-level"),
        log_outputs=values.texts("log-outputs"),
        log_rotation=_log_rotation(values),
        socket_reuse_port=values.flag("socket-reuse-port"),
        log_format=values.text("log-format"),
        trace_file=values.text("trace"),
    )
