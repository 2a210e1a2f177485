"""What a command knows while it runs: its flags and arguments, the environment, and where output goes.

A command checks its arguments first and only then asks for ``settings`` or ``connect``: wrong arguments are
told before wrong certificates, and those before a server that does not answer.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from .command import Command, Program
from .failures import BAD_ARGS, BAD_FEATURE, ERROR, Failure
from .find import all_flags
from .flagset import Flag, Parsed, Value, flag_value
from .text import duration_text, quoted

if TYPE_CHECKING:
    from ..tls_settings import ClientTls
    from .show import Printer

__all__ = ["Context", "Settings", "complain", "warn", "write", "write_bytes"]

Result = TypeVar("Result")

#: What a watch may take from variables instead of arguments; they name no flags.
WATCH_VARIABLES = ("WATCH_KEY", "WATCH_RANGE_END")
#: Whatever ``--keepalive-time`` says: etcd hangs up on who asks for signs of life more often than every 5 s,
#: and gRPC's own clients ask every 10 s at most.
PING_SECONDS_MIN = 10.0
#: Where ``--keepalive-timeout`` is none.
PONG_SECONDS = 20.0


def write_bytes(data: bytes) -> None:
    """Write to standard output at once: others may be waiting for a line."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write(text: str) -> None:
    """Write text to standard output; what came in as bytes leaves as the same bytes."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def complain(text: str) -> None:
    """Write text to standard error."""
    sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stderr.buffer.flush()


def warn(level: str, text: str) -> None:
    """One line of the log format that etcd 3.4's command line has, on standard error."""
    now = time.time()
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06d}"
    complain(f"{moment} {level} | {text}\n")


class Settings(NamedTuple):
    """How to reach the cluster. ``login`` is a name and a password; times in seconds, inf for never."""

    endpoints: tuple[str, ...]
    command_timeout: float
    tls: ClientTls | None
    login: tuple[str, str] | None
    dial_timeout: float = 2.0
    keepalive_time: float = 10.0
    keepalive_timeout: float = 6.0


class Context:
    """One run of one command."""

    def __init__(
        self,
        program: Program,
        path: tuple[Command, ...],
        parsed: Parsed,
        environment: Mapping[str, str],
        words: list[str],
    ) -> None:
        self.program = program
        self.path = path
        self.arguments = parsed.arguments
        self.dash = parsed.dash
        self.environment = environment
        self.words = words  # the whole command line
        self._flags = all_flags(program, path)
        self._values: dict[str, Value] = {name: flag.default for name, flag in self._flags.items()}
        self._values.update(parsed.given)
        self.given = frozenset(parsed.given)
        self.chosen = set(self.given)  # ... and those that variables name, once they were looked at
        self._found: Settings | None = None
        self._printer: Printer | None = None

    # Flags.

    def text(self, name: str) -> str:
        return cast("str", self._values[name])

    def yes(self, name: str) -> bool:
        return cast("bool", self._values[name])

    def number(self, name: str) -> int:
        return cast("int", self._values[name])

    def raw(self, position: int) -> bytes:
        """An argument as the bytes that were typed."""
        return os.fsencode(self.arguments[position])

    def need(self, fine: bool, text: str) -> None:
        """Fail as for wrong arguments unless ``fine``."""
        if not fine:
            raise Failure(BAD_ARGS, text)

    # Settings.

    @property
    def printer(self) -> Printer:
        """What prints answers, by ``--write-out`` and ``--hex``."""
        if self._printer is None:
            from .show import printer_for

            printer = printer_for(self.text("write-out"), bool(self._values.get("hex")))
            if printer is None:
                raise Failure(BAD_FEATURE, "unsupported output format")
            self._printer = printer
        return self._printer

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        """Print an answer; see ``Printer.show``."""
        self.printer.show(kind, answer, *more)

    def settings(self, format_first: bool = False) -> Settings:
        """Take the environment in, then check what it takes to reach the cluster, in etcdctl's order; once.

        Endpoints are looked up, a password is asked for if need be; formats come before certificates, or
        before everything.
        """
        if self._found is None:
            self._found = self._source(format_first)
        return self._found

    def _source(self, format_first: bool) -> Settings:
        self._take_environment()
        if format_first:
            _ = self.printer
        if self.yes("debug"):
            self._tell_flags()
        endpoints = self._endpoints()
        for name in ("cert", "key", "cacert"):
            self.need(
                bool(self.text(name)) or name not in self.given,
                f"empty string is passed to --{name} option",
            )
        login = self._login(self.text("user"), self.text("password"))
        _ = self.printer
        server_name = "" if self.yes("insecure-discovery") else self.text("discovery-srv")
        return self._settings(endpoints, self._tls("", server_name), login)

    def destination(self, endpoint: str) -> Settings:
        """How to reach the other cluster of ``make-mirror``."""
        tls = self._tls("dest-")
        login = self._login(self.text("dest-user"), self.text("dest-password"))
        return self._settings((endpoint,), tls, login)

    def _settings(
        self, endpoints: tuple[str, ...], tls: ClientTls | None, login: tuple[str, str] | None
    ) -> Settings:
        times = (
            cast("float", self._values[name])
            for name in ("command-timeout", "dial-timeout", "keepalive-time", "keepalive-timeout")
        )
        command, dial, silence, answer = times
        silence = max(silence, PING_SECONDS_MIN) if silence > 0 else math.inf
        answer = answer if answer > 0 else PONG_SECONDS
        return Settings(endpoints, command, tls, login, dial, silence, answer)

    def _variables(self) -> dict[str, Flag]:
        """The environment variables that stand for flags: of those that this command has from above."""
        above = (*self.program.flags, *(flag for one in self.path[:-1] for flag in one.inherited))
        return {
            f"{self.program.prefix}_{flag.name.upper().replace('-', '_')}": flag
            for flag in sorted(above, key=lambda one: one.name)
        }

    def _tell_flags(self) -> None:
        """What every global flag is in the end, as environment variables; passwords are not told."""
        for variable, flag in self._variables().items():
            value = self._values[flag.name]
            if value and flag.name in ("password", "user"):
                value = str(value).partition(":")[0] if flag.name == "user" else "********"
            complain(f"{variable}={_shown(value)}\n")

    def run(self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object) -> Result:
        """Run a command's asynchronous part. Errors of calls become failures with status 1."""
        import trio

        from tercet.core.errors import TercetError

        from .calls import error_text

        try:
            return trio.run(function, *arguments)
        except TercetError as error:
            raise Failure(ERROR, error_text(error)) from None
        except BaseExceptionGroup as group:
            known, other = group.split((Failure, TercetError))
            if known is None or other is not None:
                raise
            first = _first(known)
            raise (first if isinstance(first, Failure) else Failure(ERROR, error_text(first))) from None

    def _take_environment(self) -> None:
        prefix, flags = self.program.prefix, self._variables()
        others = WATCH_VARIABLES if self.path[-1].name == "watch" else ()
        for variable, word in self.environment.items():
            flag = flags.get(variable)
            if flag is None or not (word or flag.name in self.given):
                rest = variable.removeprefix(prefix + "_")
                if rest not in (variable, *(others if word else ())):
                    warn("W", f"pkg/flags: unrecognized environment variable {variable}={word}")
            elif flag.name in self.given:
                warn(
                    "C",
                    f'pkg/flags: conflicting environment variable "{variable}" is shadowed by corresponding'
                    " command-line flag (either unset environment variable or disable flag)",
                )
                raise Failure(ERROR, "")
            else:
                self.chosen.add(flag.name)
                try:
                    self._values[flag.name] = flag_value(flag, word)
                except ValueError:  # such a variable is as good as none, but what is not yes is no
                    self._values[flag.name] = flag.kind != "bool" and flag.default

    def _endpoints(self) -> tuple[str, ...]:
        domain = self.text("discovery-srv")
        found = (
            discovered(domain, self.text("discovery-srv-name"), self.yes("insecure-discovery"))
            if domain
            else ()
        )
        return found or cast("tuple[str, ...]", self._values["endpoints"])

    def _tls(self, prefix: str, server_name: str = "") -> ClientTls | None:
        authorities, cert, key = (self.text(prefix + name) for name in ("cacert", "cert", "key"))
        if not (authorities or cert or key or server_name) and self.yes(prefix + "insecure-transport"):
            return None
        from ..tls_settings import ClientTls
        from .tls import check_tls

        tls = ClientTls(
            ca_file=authorities,
            cert_file=cert,
            key_file=key,
            insecure_skip_verify=not prefix and self.yes("insecure-skip-tls-verify"),
            server_name=server_name,
        )
        check_tls(tls)
        return tls

    def _login(self, user: str, password: str) -> tuple[str, str] | None:
        """The name and the password; None when one of them is empty: then nobody logs in."""
        if not user:
            return None
        name, colon, secret = user.partition(":")
        if password:
            name, secret = user, password
        elif not colon:
            from .passwords import ask_password

            secret = ask_password("Password: ")
        return (name, secret) if name and secret else None


def _shown(value: Value) -> str:
    """A flag's value as the command line would take it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return duration_text(value) if isinstance(value, float) else str(value)


def _first(group: BaseExceptionGroup[Any]) -> Any:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def discovered(domain: str, service: str, insecure: bool) -> tuple[str, ...]:
    """Client URLs from a domain's SRV records. Insecure ones are dropped, and told, unless they are accepted.

    Raises:
        Failure: There are no such records.
    """
    from .session import lookup_services

    suffix = f"-{service}" if service else ""
    found: list[str] = []
    problems = []
    for kind, scheme in (("etcd-client-ssl", "https"), ("etcd-client", "http")):
        try:
            services = lookup_services(f"_{kind}{suffix}._tcp.{domain}")
        except OSError as problem:
            problems.append(problem.strerror or str(problem))
            continue
        for host, port in services:
            url = f"{scheme}://{host}:{port}"
            if insecure or scheme == "https":
                found.append(url)
            else:
                complain(f"ignoring discovered insecure endpoint {quoted(url)}\n")
    if len(problems) > 1:
        raise Failure(ERROR, f"dns lookup errors: {' and '.join(problems)}")
    return tuple(found)
