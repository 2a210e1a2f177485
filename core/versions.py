"""The version of etcd's API that the cluster offers, and whether it is on its way down.

The version is what all members can do. It rises when the last member has been upgraded, and falls by one
minor step when a downgrade was asked for and the last member has been replaced; who decides that is
``net.versions``. Data is kept in one form whatever the version is, so nothing else hangs on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from .command import Command
from .mvcc.record import Delta
from .wire.proto import internal_pb2 as internal

__all__ = ["Versions", "minor_version", "read_version_rows", "version_rows"]

_BUCKET: Final = "cluster"
_VERSION, _DOWNGRADE = b"clusterVersion", b"downgrade"
_NUMBERS: Final = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.\d{1,9})?(?:[-+].*)?")


def minor_version(text: str) -> tuple[int, int] | None:
    """Major and minor number of a version such as ``3.4.35`` or ``3.4``; None when it is none."""
    found = _NUMBERS.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]))


class _StoredDowngrade(msgspec.Struct, frozen=True):
    """The row of a downgrade under way, as etcd 3.5 writes it."""

    target: str = msgspec.field(name="target-version")
    enabled: bool


def version_rows(cluster: str, downgrade: str) -> list[tuple[bytes, bytes]]:
    """The rows as etcd's database has them, in order; "" has none."""
    found = [(_VERSION, cluster.encode())] if cluster else []
    if downgrade:
        found.append((_DOWNGRADE, msgspec.json.encode(_StoredDowngrade(downgrade, True))))
    return found


def read_version_rows(rows: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """The cluster's version and the target of a downgrade, each "" when there is none.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError: a row cannot be what its key says.
    """
    found = dict(rows)
    stored = found.get(_DOWNGRADE)
    downgrade = None if stored is None else msgspec.json.decode(stored, type=_StoredDowngrade)
    target = downgrade.target if downgrade is not None and downgrade.enabled else ""
    return found.get(_VERSION, b"").decode(), target


class Versions:
    """What the cluster has agreed on.

    Args:
        change: notes a row of the durable form (``Machine.change``).
    """

    def __init__(self, change: Callable[[str, bytes, bytes | None], None]) -> None:
        self.cluster = ""  # e.g. 3.4.0; "": not yet decided
        self.downgrade = ""  # what the cluster is on its way down to; "": nothing is under way
        self._change = change

    def handlers(self) -> dict[int, Callable[[bytes], tuple[bytes, Delta]]]:
        """What carries out each command."""
        return {Command.CLUSTER_VERSION: self._set_cluster, Command.DOWNGRADE: self._set_downgrade}

    def load(self, key: bytes, value: bytes) -> None:
        """Take back a row."""
        cluster, downgrade = read_version_rows([(key, value)])
        self.cluster, self.downgrade = cluster or self.cluster, downgrade or self.downgrade

    def _set_cluster(self, payload: bytes) -> tuple[bytes, Delta]:
        self.cluster = internal.ClusterVersion.FromString(payload).version
        self._change(_BUCKET, _VERSION, self.cluster.encode())
        return b"", ()

    def _set_downgrade(self, payload: bytes) -> tuple[bytes, Delta]:
        self.downgrade = internal.Downgrade.FromString(payload).target
        self._change(_BUCKET, _DOWNGRADE, dict(version_rows("", self.downgrade)).get(_DOWNGRADE))
        return b"", ()
