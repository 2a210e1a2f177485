"""A member's command line: etcd's flags, ``ETCD_*`` variables and ``--config-file``, with etcd's rules.

Precedence as in etcd: with a configuration file everything else is ignored; otherwise a flag or its
variable, but not both (etcd refuses to guess which was meant). Errors keep etcd's words, because start-up
scripts and tests look for them. What each flag means is data in ``flag_table``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from .config import MemberConfig
from .flag_table import FLAGS, TABLE, Effect, Flag, Kind
from .flag_values import Value, check_url, read_value
from .log import LEVELS

__all__ = ["FlagError", "Startup", "UsageError", "help_text", "parse"]

ELECTION_MS_MAX: Final = 50_000
#: Well below what one frame between members may hold (core/wire/peer.py).
REQUEST_BYTES_MAX: Final = 10 << 20


class FlagError(ValueError):
    """The configuration cannot be used; exit status 1."""


class UsageError(FlagError):
    """The command line itself is wrong: usage is shown, exit status 2."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What the command line asks for: to run ``config``, or only to show the ``version`` or the ``help``."""

    show: str = ""  # "", "version" or "help"
    config: MemberConfig = field(default_factory=MemberConfig)
    warnings: tuple[str, ...] = ()


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Startup:
    """Resolve a member's command line.

    Args:
        arguments: without the program's name.
        environment: only ``ETCD_*`` names are looked at.

    Raises:
        UsageError: the command line is not well formed.
        FlagError: a value, a file or their combination cannot be used.
    """
    given = _read_arguments(arguments)
    if given.get("help") or given.get("h"):
        return Startup("help")
    if given.get("version"):
        return Startup("version", MemberConfig(reported_version=str(given.get("reported-version", "3.4.35"))))
    path = str(given.get("config-file") or environment.get("ETCD_CONFIG_FILE", ""))
    if path:
        return _resolve(_read_file(path), [])
    warnings: list[str] = []
    given.update(_read_environment(given, environment, warnings))
    return _resolve(given, warnings)


def _read_arguments(arguments: Sequence[str]) -> dict[str, Value]:
    """Go's flag syntax: -f v, -f=v, --f v, --f=v, and a bare -f for booleans; ``--`` ends the flags."""
    given: dict[str, Value] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if len(word) < 2 or not word.startswith("-"):
            raise FlagError(f"'{word}' is not a valid flag")
        body = word[2:] if word.startswith("--") else word[1:]
        if not body or body[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        name, equals, text = body.partition("=")
        flag = FLAGS.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if flag.kind is Kind.BOOL and not equals:
            text = "true"
        elif not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        try:
            given[name] = read_value(flag, text)
        except ValueError as problem:
            if flag.kind is Kind.BOOL:
                raise UsageError(f'invalid boolean value "{text}" for -{name}: {problem}') from None
            raise UsageError(f'invalid value "{text}" for flag -{name}: {problem}') from None
    if rest:
        raise FlagError(f"'{rest[0]}' is not a valid flag")
    return given


def _variable(name: str) -> str:
    return "ETCD_" + name.upper().replace("-", "_")


def _read_environment(
    given: Mapping[str, Value], environment: Mapping[str, str], warnings: list[str]
) -> dict[str, Value]:
    known = {_variable(flag.name): flag for flag in TABLE if flag.name not in ("h", "help", "version")}
    found: dict[str, Value] = {}
    for variable in sorted(environment):
        text = environment[variable]
        if not variable.startswith("ETCD_") or not text:
            continue
        flag = known.get(variable)
        if flag is None:
            warnings.append(f"unrecognized environment variable {variable}={text}")
            continue
        if flag.name in given:
            raise FlagError(
                f'conflicting environment variable "{variable}" is shadowed by corresponding'
                " command-line flag (either unset environment variable or disable flag)"
            )
        try:
            found[flag.name] = read_value(flag, text)
        except ValueError as problem:
            raise FlagError(f'invalid value "{text}" for {variable}: {problem}') from None
    return found


def _read_file(path: str) -> dict[str, Value]:
    """The configuration file: the flags' names as keys; keys nobody knows are ignored, as etcd does."""
    try:
        with open(path, encoding="utf-8") as file:  # read once, before any world exists
            document = yaml.safe_load(file)
    except OSError as problem:
        raise FlagError(f"open {path}: {(problem.strerror or str(problem)).lower()}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise FlagError(f"error converting YAML to JSON: yaml: {' '.join(str(problem).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise FlagError("error unmarshaling JSON: need a mapping of flag names to values")
    found: dict[str, Value] = {}
    for section, prefix in (("client-transport-security", ""), ("peer-transport-security", "peer-")):
        inner = document.pop(section, None)
        if isinstance(inner, dict):
            document.update({f"{prefix}{key}": value for key, value in inner.items()})
    for key, value in document.items():
        flag = FLAGS.get(str(key))
        if flag is not None and value is not None:
            found[flag.name] = _read_yaml(flag, value)
    return found


def _read_yaml(flag: Flag, value: Any) -> Value:
    """A YAML value, strict about its type as etcd's decoder is; a duration may be a number of nanoseconds."""
    wrong = FlagError(
        f"error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {_json_name(value)} into Go"
        f" struct field configYAML.{flag.name} of type {flag.kind.value}"
    )
    if flag.kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise wrong
        return value
    if flag.kind in (Kind.UINT, Kind.INT):
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong
        text = str(value)
    elif flag.kind is Kind.DURATION and isinstance(value, int):
        return value / 1e9
    elif isinstance(value, list):
        text = ",".join(str(item) for item in value)
    else:
        text = value if isinstance(value, str) else str(value)
    try:
        return read_value(flag, text)
    except ValueError as problem:
        raise FlagError(f"unexpected error setting up {flag.name}: {problem}") from None


def _json_name(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "string"


def _resolve(given: dict[str, Value], warnings: list[str]) -> Startup:
    """Fill in defaults, check everything in etcd's order, and make the configuration."""
    values: dict[str, Value] = {flag.name: read_value(flag, flag.default) for flag in TABLE}
    values.update(given)
    _check_effects(given, warnings)
    _check_addresses(values)
    _check_timing(_number(values, "heartbeat-interval"), _number(values, "election-timeout"))
    _check_request_bytes(_number(values, "max-request-bytes"))
    if "listen-client-urls" in given and "advertise-client-urls" not in given:
        raise FlagError("--advertise-client-urls is required when --listen-client-urls is set explicitly")
    mode = values["auto-compaction-mode"]
    if mode not in ("periodic", "revision"):
        raise FlagError(f'unknown auto-compaction-mode "{mode}"')
    level = "debug" if values["debug"] else str(values["log-level"])
    if level not in LEVELS:
        raise FlagError(f'unknown level "{level}"')
    return Startup("", _configure(values, level), tuple(warnings))


def _check_effects(given: Mapping[str, Value], warnings: list[str]) -> None:
    for flag in TABLE:
        if flag.name not in given or given[flag.name] == read_value(flag, flag.default):
            continue
        if flag.effect is Effect.REFUSED:
            raise FlagError(f"--{flag.name} is not supported by this version of Tercet")
        if flag.effect is Effect.WARNED:
            warnings.append(f"--{flag.name} has no effect in this version of Tercet")


def _urls(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    found = values[name]
    assert isinstance(found, tuple), name
    return found


def _number(values: Mapping[str, Value], name: str) -> int:
    found = values[name]
    assert isinstance(found, int), name
    return found


def _seconds(values: Mapping[str, Value], name: str) -> float:
    found = values[name]
    assert isinstance(found, (int, float)), name
    return float(found)


def _check_addresses(values: Mapping[str, Value]) -> None:
    bound = ("listen-peer-urls", "listen-client-urls", "listen-metrics-urls")
    for name in (*bound, "initial-advertise-peer-urls", "advertise-client-urls"):
        for url in _urls(values, name):
            scheme = urlsplit(url).scheme
            if scheme != "http":
                raise FlagError(f"{scheme}:// in --{name} is not supported by this version of Tercet: {url}")
    for name in bound:
        for url in _urls(values, name):
            host = urlsplit(url).netloc.rpartition(":")[0].strip("[]")
            if host not in ("", "localhost") and not _is_address(host):
                raise FlagError(f"expected IP in URL for binding ({url})")
    for name in ("initial-advertise-peer-urls", "advertise-client-urls"):
        for url in _urls(values, name):
            if not urlsplit(url).netloc.rpartition(":")[0]:
                raise FlagError(f"unexpected empty host ({url})")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
    for url in every:
        if not url.startswith("http://"):
            raise FlagError(f"--initial-cluster holds a URL this version of Tercet does not support: {url}")
    ours = tuple(sorted(members[name]))
    if ours != own_urls:
        raise FlagError(
            f"--initial-cluster has {','.join(f'{name}={url}' for url in ours)} but missing from"
            f" --initial-advertise-peer-urls={','.join(own_urls)}"
        )
    return {member: tuple(sorted(urls)) for member, urls in members.items()}


def _configure(values: Mapping[str, Value], level: str) -> MemberConfig:
    name = str(values["name"])
    own_urls = _urls(values, "initial-advertise-peer-urls")
    text = str(values["initial-cluster"]) or ",".join(f"{name}={url}" for url in own_urls)
    numbers = {
        key: _number(values, key)
        for key in ("heartbeat-interval", "election-timeout", "max-request-bytes", "max-txn-ops",
                    "max-concurrent-streams", "quota-backend-bytes")
    }
    seconds = {
        key: _seconds(values, key)
        for key in ("grpc-keepalive-min-time", "grpc-keepalive-interval", "grpc-keepalive-timeout")
    }
    return MemberConfig(
        name=name,
        data_dir=str(values["data-dir"]) or f"{name}.etcd",
        listen_client_urls=_urls(values, "listen-client-urls"),
        advertise_client_urls=_urls(values, "advertise-client-urls"),
        listen_peer_urls=_urls(values, "listen-peer-urls"),
        initial_advertise_peer_urls=own_urls,
        listen_metrics_urls=_urls(values, "listen-metrics-urls"),
        initial_cluster=_initial_cluster(text, name, own_urls),
        initial_cluster_token=str(values["initial-cluster-token"]),
        initial_cluster_state=str(values["initial-cluster-state"]),
        heartbeat_interval_ms=numbers["heartbeat-interval"],
        election_timeout_ms=numbers["election-timeout"],
        pre_vote=bool(values["pre-vote"]),
        max_request_bytes=numbers["max-request-bytes"],
        max_txn_ops=numbers["max-txn-ops"],
        max_concurrent_streams=numbers["max-concurrent-streams"],
        grpc_keepalive_min_time=seconds["grpc-keepalive-min-time"],
        grpc_keepalive_interval=seconds["grpc-keepalive-interval"],
        grpc_keepalive_timeout=seconds["grpc-keepalive-timeout"],
        quota_backend_bytes=numbers["quota-backend-bytes"],
        reported_version=str(values["reported-version"]),
        log_level=level,
        trace_file=str(values["trace"]),
    )


_USAGE: Final = """\
Usage:

  tercet [flags]              run one member; the flags are etcd's
  tercet --config-file FILE   the same from a YAML file; other flags and variables are ignored
  tercet --version            print the version
  tercet cluster              run three members on this machine
  tercet sim | campaign | check | trace | bench | fuzz
                              simulate, check and measure; each has its own --help

Every flag may be written -f v, -f=v, --f v or --f=v, or given as a variable ETCD_F.
"""


def help_text() -> str:
    """What ``tercet --help`` prints."""
    lines = [_USAGE]
    group = ""
    for flag in TABLE:
        if not flag.group:
            continue
        if flag.group != group:
            group = flag.group
            lines.append(f"\n{group}:")
        note = {
            Effect.WARNED: " (no effect yet)", Effect.REFUSED: " (not supported yet)",
        }.get(flag.effect, "")
        lines.append(f"  --{flag.name} '{flag.default}'\n    {flag.help}{note}")
    return "\n".join(lines) + "\n"
