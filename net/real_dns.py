"""SRV records from the system's name servers: the one kind of look-up that the standard library has not."""

from __future__ import annotations

import errno
from collections.abc import Sequence

__all__ = ["lookup_services"]


def lookup_services(
    name: str, *, nameservers: Sequence[str] = (), port: int = 53
) -> tuple[tuple[str, int], ...]:
    """The SRV records of ``name`` as (host, port), by priority, then the heavier first. Blocks.

    Args:
        name: ``_service._proto.domain``.
        nameservers: addresses to ask instead of the system's.
        port: of those.

    Raises:
        OSError: there are none, or nobody answered.
    """
    import dns.exception  # only here: a member seldom needs it
    import dns.resolver

    try:
        resolver = dns.resolver.Resolver(configure=not nameservers)
        if nameservers:
            resolver.nameservers = list(nameservers)
            resolver.port = port
        answer = resolver.resolve(name, "SRV", lifetime=10.0)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        raise OSError(errno.ENOENT, f"lookup {name}: no such host") from None
    except dns.exception.DNSException as problem:
        raise OSError(errno.EHOSTUNREACH, f"lookup {name}: {problem}") from None
    rows = sorted((r.priority, -r.weight, r.target.to_text(omit_final_dot=True), r.port) for r in answer)
    return tuple((target, number) for _, _, target, number in rows)
