"""A member's command line: etcd's flags, ``ETCD_*`` variables and ``--config-file``, with etcd's rules.

Precedence as in etcd: with a configuration file everything else is ignored; otherwise a flag or its
variable, but not both (etcd refuses to guess which was meant). Errors keep etcd's words, because start-up
scripts and tests look for them. What each flag means is data in ``flag_table``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .config import MemberConfig
from .flag_config import resolve
from .flag_table import FLAGS, TABLE, Effect, Flag, Kind
from .flag_values import FlagError, Value, read_value

__all__ = ["FlagError", "Startup", "UsageError", "help_text", "parse"]

#: Keys of the file's two sections -> the flag of the client port, the flag of the peer port.
_SECTION_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "allowed-cn": ("client-cert-allowed-cn", "peer-cert-allowed-cn"),
    "allowed-hostname": ("client-cert-allowed-hostname", "peer-cert-allowed-hostname"),
    "crl-file": ("client-crl-file", "peer-crl-file"),
    **{
        key: (key, f"peer-{key}")
        for key in ("cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth",
                    "trusted-ca-file", "auto-tls")
    },
}


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
        return _startup(_read_file(path), [])
    warnings: list[str] = []
    given.update(_read_environment(given, environment, warnings))
    return _startup(given, warnings)


def _startup(given: Mapping[str, Value], warnings: list[str]) -> Startup:
    config = resolve(given, warnings)
    return Startup("", config, tuple(dict.fromkeys(warnings)))


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
    for side, section in enumerate(("client-transport-security", "peer-transport-security")):
        inner = document.pop(section, None)
        if isinstance(inner, dict):
            document.update({_SECTION_KEYS[k][side]: v for k, v in inner.items() if k in _SECTION_KEYS})
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


_USAGE: Final = """\
Usage:

  tercet [flags]              run one member; the flags are etcd's
  tercet --config-file FILE   the same from a YAML file; other flags and variables are ignored
  tercet --version            print the version
  tercet cluster              run three members on this machine
  tercet gateway start        pass connections on to any member that can be reached
  tercet grpc-proxy start     hand calls on to a cluster, perhaps under a namespace

  tercet sim run --seed 7     run a simulated cluster with faults; sim explore: the bare core
  tercet campaign run         many such runs, each one checked, shrunk when it fails
  tercet trace play FILE      step through a recorded run in the browser
  tercet check FILE           check a recorded history for linearizability
  tercet bench, tercet fuzz   measure beside etcd; send damaged streams to both ports
  tercet openapi              print the description of the JSON gateway
  Each of them has its own --help.

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
